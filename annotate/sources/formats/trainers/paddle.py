"""PaddleNLP and ERNIEKit: turns in two lists, and responses in a list of which the higher `sort` is preferred."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

USED = ("src", "tgt", "response", "sort", *fields.SYSTEM)


def _fits(record: Record) -> bool:
    order, responses = record.get("sort"), record.get("response")
    has_both = isinstance(order, list) and isinstance(responses, list) and len(order) == len(responses) > 1
    return has_both and isinstance(record.get("src"), str | list) and all(map(fields.is_number, order))  # type: ignore[arg-type]


def _read(record: Record) -> Candidate:
    asked, answered = _texts(record, "src"), _texts(record, "tgt")
    if len(asked) != len(answered) + 1:
        raise RecordError(_("src must have one text more than tgt."), "src")
    history = [list(turn) for turn in zip(asked, answered, strict=False)]
    prompt: Content = fields.with_history(asked[-1], {**record, "history": history})
    return fields.candidate(
        record,
        USED,
        prompt,
        [Answer(_response(response)) for response in record["response"]],
        [Opinion(tuple(fields.number(place, "sort") for place in record["sort"]))],
    )


def _texts(record: Record, key: str) -> list[str]:
    value = record.get(key) or []
    found: list[Any] = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise RecordError(_("%(name)s must be text or a list of texts.") % {"name": key}, key)
    return found


def _response(value: object) -> str:
    """Return a response, which may be the only text of a list."""
    [text] = value if isinstance(value, list) and len(value) == 1 else [value]
    if not isinstance(text, str):
        raise RecordError(_("%(name)s must be text.") % {"name": "response"}, "response")
    return text


PREFERENCES = Format("paddle", noop("PaddleNLP, ERNIEKit (DPO)"), JUDGED, _fits, _read)
