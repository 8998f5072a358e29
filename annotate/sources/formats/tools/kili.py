"""Kili: its export of chats with two replies, of which annotators say how much better one is."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

COMPARISON = "COMPARISON_JOB"
STRENGTHS = {"is slightly better": 1, "is better": 2, "is much better": 3}


def _rounds(record: Record) -> Mapping[str, Any]:
    """Return the comparisons of a label, by the number of the round; none if it holds other things."""
    label = record.get("label")
    found = label.get("round") if isinstance(label, Mapping) else None
    found = found.get(COMPARISON) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _fits(record: Record) -> bool:
    return fields.are_objects(record.get("chatItems"), "role", "content", "externalId") and bool(
        _rounds(record)
    )


def _read(record: Record) -> Candidate:
    """Return the only round of a chat: which reply another one follows is not said."""
    items, rounds = fields.objects(record, "chatItems"), _rounds(record)
    replies = [item for item in items if item["role"] == "ASSISTANT"]
    before = items[: len(items) - len(replies)]
    said = next(iter(rounds.values()))
    if len(rounds) != 1 or not isinstance(said, Mapping) or any(item in replies for item in before):
        raise RecordError(_("Of chats with several rounds it is not known how they went on."), "chatItems")
    chat: list[Message] = [
        {"role": fields.text(item, "role").lower(), "content": fields.text(item, "content")}
        for item in before
    ]
    ids = [fields.name_of(item["externalId"]) for item in replies]
    note = record["label"].get("conversation")
    return fields.candidate(
        record,
        ("chatItems", "label", "labeler", "externalId"),
        chat,
        [Answer(fields.text(item, "content"), fields.name_of(item.get("modelName"))) for item in replies],
        [
            _opinion(said, ids)._replace(
                annotator=fields.name_of(record.get("labeler")), rationale=_note(note)
            )
        ],
        external_id=fields.name_of(record.get("externalId")),
    )


def _opinion(said: Mapping[str, Any], ids: list[str]) -> Opinion:
    """Return what is said of two replies: the first one named is the better one. Raises RecordError."""
    code = fields.name_of(said.get("code")).strip().lower()
    pair = [fields.name_of(said.get(key)) for key in ("firstId", "secondId")]
    if len({*pair}) < 2 or not all(ids.count(name) == 1 for name in pair):
        raise RecordError(_("The comparison names no two replies of the chat."), COMPARISON)
    if code in STRENGTHS:
        scores = {pair[0]: 1.0, pair[1]: 0.0}
        return Opinion(tuple(scores.get(name) for name in ids), strength=STRENGTHS[code])
    raise RecordError(
        _("%(name)s must be %(values)s.") % {"name": "code", "values": ", ".join(STRENGTHS)}, "code"
    )


def _note(value: object) -> str:
    """Return what an annotator wrote of the conversation."""
    texts = value.values() if isinstance(value, Mapping) else ()
    return "\n".join(
        text["text"] for text in texts if isinstance(text, Mapping) and isinstance(text.get("text"), str)
    )


CHATS = Format("kili", noop("Kili (comparisons of replies)"), JUDGED, _fits, _read)
