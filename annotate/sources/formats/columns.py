"""Two completions in columns of their own, with a verdict in words: files that teams make for themselves."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.signs import VERDICT, hints_verdict, holds_verdict
from annotate.sources.formats.tools.side_by_side import read_texts
from annotate.sources.formats.verdicts import (
    LOSER,
    NAMED_LOSER,
    are_called_answers,
    explain_loser,
    find_answers,
    find_policies,
    find_prompt,
    read_loser,
    read_verdict,
    read_winner,
)
from annotate.sources.formats.whetstone.pairs_to_judge import COMPLETIONS
from annotate.sources.tables import like
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
BESIDE = frozenset((*ANNOTATOR, *RATIONALE))
SAYS = re.compile(rf"{VERDICT.pattern}|label|choice|score|answer|correct|gold|target", re.IGNORECASE)


def _plain(key: str) -> str:
    """Return a key as it is compared: “Rater ID” is rater_id."""
    return re.sub(r"[ -]+", "_", key.strip().casefold())


@dataclass(frozen=True)
class _Columns:
    """The keys of two completions and of their verdict, which may be absent. `others` is what else a record says."""

    answers: list[str]
    verdict: str
    others: Record


def _find_columns(record: Record) -> _Columns | None:
    """Return the columns of a record; None where two texts do not stand side by side, or several verdicts do."""
    if not all(isinstance(key, str) for key in record) or "items" in record:
        return None
    answers = find_answers(record)
    if len(answers) != 2 or not find_prompt(record, answers):
        return None
    others = like(
        record,
        {
            key: value
            for key, value in record.items()
            if key not in answers and value not in (None, "", []) and _plain(key) not in BESIDE
        },
    )
    verdicts = [key for key in others if SAYS.search(key)]
    hinted = [key for key, value in others.items() if key not in verdicts and hints_verdict(key, value)]
    if verdicts:  # beside them, “overall” may be a rating or a remark
        hinted = [key for key in hinted if _read_value(record, key, answers) is not None]
    verdicts += hinted
    return _Columns(answers, verdicts[0] if verdicts else "", others) if len(verdicts) < 2 else None


def _fits(record: Record) -> bool:
    columns = _find_columns(record)
    if columns is None:
        return False
    if columns.verdict:
        return _read_verdict(record, columns) is not None
    if not are_called_answers(columns.answers):
        return False
    # A verdict under a name that says nothing keeps it from becoming comparisons without one.
    used = (find_prompt(record, columns.answers), *find_policies(record, columns.answers))
    others = like(record, {key: value for key, value in columns.others.items() if key not in used})
    return not holds_verdict(others) and not any(
        read_verdict(value, columns.answers) for value in others.values()
    )


def _explain(record: Record) -> str:
    """Return why a record is not read whose verdict cannot be understood; an empty text for another one."""
    columns = _find_columns(record)
    if columns is None or not columns.verdict:
        return ""
    if LOSER.search(columns.verdict) and not NAMED_LOSER.fullmatch(columns.verdict):
        return explain_loser(columns.verdict)
    return _("“%(value)s” in %(column)s is not a verdict that is known.") % {
        "value": printable(str(record[columns.verdict]), 40),
        "column": printable(columns.verdict, 40),
    }


def _read_verdict(record: Record, columns: _Columns) -> Opinion | None:
    """Return what a record says: a verdict in words, or the name of who wrote the better completion, or the worse."""
    return _read_value(record, columns.verdict, columns.answers)


def _read_value(record: Record, key: str, answers: Sequence[str]) -> Opinion | None:
    names_loser = LOSER.search(key) is not None
    if names_loser and not NAMED_LOSER.fullmatch(key):
        return None
    read = read_loser if names_loser else read_winner
    return read(record[key], answers, [record.get(policy) for policy in find_policies(record, answers)])


def _read(record: Record) -> Candidate:
    columns, texts = _find_columns(record), read_texts(record)
    if columns is None or not columns.verdict:
        return texts.candidate(record, (), [])
    annotator, rationale = _find(record, ANNOTATOR), _find(record, RATIONALE)
    verdict = _read_verdict(record, columns) or Opinion()
    opinion = verdict._replace(
        annotator=fields.name_of(record.get(annotator)), rationale=fields.name_of(record.get(rationale))
    )
    return texts.candidate(record, (columns.verdict, annotator, rationale), [opinion])


def _find(record: Record, names: Sequence[str]) -> str:
    """Return the first key with one of these names and a value."""
    keys = {_plain(key): key for key, value in reversed(list(record.items())) if fields.name_of(value)}
    return next((keys[name] for name in names if name in keys), "")


def _are_of_others(records: Sequence[Record]) -> bool:
    """Return whether records have a verdict or columns of others' names.

    Whetstone's own columns without one are of its own format, unless another column may hold a verdict.
    """
    return any(
        columns.verdict or "prompt" not in record or {*columns.answers} != {*COMPLETIONS}
        for record in records
        if (columns := _find_columns(record)) is not None
    )


SIDE_BY_SIDE = Format(
    "side-by-side",
    noop("Two completions with a verdict"),
    JUDGED,
    _fits,
    _read,
    explain=_explain,
    fits_together=_are_of_others,
    opens_cells=True,
)
