"""Two completions in columns of their own, with a verdict in words: files that teams make for themselves."""

import re
from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.tools.side_by_side import Texts, has_texts, read_texts
from annotate.sources.formats.verdicts import VERDICT, find_answers, hints_verdict, read_verdict, read_writer
from primitives.text import printable

ANNOTATOR = (
    *("annotator", "annotator_id", "annotator_name", "worker", "worker_id", "rater", "rater_id", "judge", "user_id"),
    *("labeler", "labeler_id", "labeller", "evaluator", "evaluator_id", "reviewer"),
)  # fmt: skip
RATIONALE = (
    "rationale",
    "reason",
    "reasoning",
    "explanation",
    "justification",
    "comment",
    "comments",
    "notes",
)
SAYS = re.compile(rf"{VERDICT.pattern}|label|choice|score|answer|correct|gold|target", re.IGNORECASE)


def _plain(key: str) -> str:
    """Return a key as it is compared: “Rater ID” is rater_id."""
    return re.sub(r"[ -]+", "_", key.strip().casefold())


def _others(record: Record) -> dict[str, object]:
    """Return what a record says beside its texts, who judged them, and why."""
    used = {*find_answers(record)}
    return {
        key: value
        for key, value in record.items()
        if key not in used and _plain(key) not in (*ANNOTATOR, *RATIONALE) and value not in (None, "", [])
    }


def _verdict_keys(record: Record) -> list[str]:
    """Return the columns that may say which completion is better."""
    others = _others(record)
    found = [key for key in others if SAYS.search(key)]
    return found or [key for key, value in others.items() if hints_verdict(key, value)]


def _fits_but_for_verdict(record: Record) -> bool:
    if not all(isinstance(key, str) for key in record) or not has_texts(record) or "items" in record:
        return False
    return len(find_answers(record)) == 2 and len(_verdict_keys(record)) <= 1


def _fits(record: Record) -> bool:
    if not _fits_but_for_verdict(record):
        return False
    texts, verdicts = read_texts(record), _verdict_keys(record)
    if verdicts:
        return _read_verdict(record[verdicts[0]], texts) is not None
    # A verdict under a name that says nothing keeps it from becoming comparisons without one.
    return not any(
        key not in texts.used and read_verdict(value, texts.names) for key, value in _others(record).items()
    )


def _explain(record: Record) -> str:
    """Return why a record is not read whose verdict cannot be understood; an empty text for another one."""
    verdicts = _verdict_keys(record) if _fits_but_for_verdict(record) else []
    if not verdicts:
        return ""
    return _("“%(value)s” in %(column)s is not a verdict that is known.") % {
        "value": printable(str(record[verdicts[0]]), 40),
        "column": printable(verdicts[0], 40),
    }


def _read_verdict(value: object, texts: Texts) -> Opinion | None:
    """Return what a column says: a verdict in words, or the name of who wrote the better completion."""
    return read_verdict(value, texts.names) or read_writer(value, [answer.policy for answer in texts.answers])


def _read(record: Record) -> Candidate:
    texts, verdicts = read_texts(record), _verdict_keys(record)
    annotator, rationale = _find(record, ANNOTATOR), _find(record, RATIONALE)
    if not verdicts:
        return texts.candidate(record, (), [])
    verdict = _read_verdict(record[verdicts[0]], texts) or Opinion()
    opinion = Opinion(
        verdict.scores,
        verdict.verdict,
        fields.name_of(record.get(annotator)),
        verdict.strength,
        fields.name_of(record.get(rationale)),
    )
    return texts.candidate(record, (*verdicts, annotator, rationale), [opinion])


def _find(record: Record, names: Sequence[str]) -> str:
    """Return the first key with one of these names and a value."""
    keys = {_plain(key): key for key, value in reversed(list(record.items())) if fields.name_of(value)}
    return next((keys[name] for name in names if name in keys), "")


SIDE_BY_SIDE = Format(
    "side-by-side", noop("Two completions with a verdict"), JUDGED, _fits, _read, explain=_explain
)
