"""Two completions in columns, and a column with the verdicts of each annotator."""

import re
from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.signs import FOREIGN, HINT, KEY_LENGTH, NEAR, VERDICT, holds_verdict
from annotate.sources.formats.tools.side_by_side import read_texts
from annotate.sources.formats.verdicts import (
    LOSER,
    NOUN,
    find_answers,
    find_policies,
    find_prompt,
    read_verdict,
    read_winner,
)
from annotate.sources.tables import like
from primitives.text import printable

FEWEST = 2  # columns of a file: one alone is of what it says, and not of who says it
PERSON = "rater|annotator|ann|judge|worker|labell?er|evaluator|reviewer|expert|coder"
# A word for a person, and one number or one name: “rater_1_choice” is about what a rater said.
RATER = re.compile(rf"({PERSON})(?:[ _-]*([0-9]+)|[ _-]+([^\W_]+))", re.IGNORECASE)
# Words behind the one for a person that are not the name of one: what is said, of what, or in which order.
NO_NAME = re.compile(
    rf"({NOUN})s?|ids?|name|email|hash|time|seconds|comments?|reason|rationale|notes?|confidence|score|label|decision"
    r"|answer|prompt|version|type|count|agree|left|right|first|second|ab|ba|original|swapped|reversed|order|style|tone"
    r"|depth|\w+(ness|ity|acy|ance|ence|ency|ment|[ts]ion|th)"
    rf"|.*({VERDICT.pattern}|{NEAR.pattern}|{LOSER.pattern}|{FOREIGN}).*|{HINT.pattern}",
    re.IGNORECASE,
)
BLANK = {"", "-", "–", "—", "n/a", "na", "nan", "null"}


def _find_raters(record: Record) -> list[str]:
    """Return the columns that are of one annotator each; none where two are of the same."""
    found = {
        key: (match[1].casefold(), (match[2] or match[3]).casefold())
        for key in record
        if isinstance(key, str) and (match := RATER.fullmatch(key)) and not _is_no_name(match[3])
    }
    return list(found) if len(set(found.values())) == len(found) else []


def _is_no_name(word: str | None) -> bool:
    return word is not None and NO_NAME.fullmatch(word[:KEY_LENGTH]) is not None


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in BLANK)


def _find_columns(record: Record) -> tuple[list[str], list[str]]:
    """Return the columns of two completions and of their raters, or none."""
    raters = _find_raters(record)
    answers = find_answers(record) if raters else []
    if len(answers) != 2 or not find_prompt(record, answers):
        return [], []
    return answers, raters


def _fits(record: Record) -> bool:
    answers, raters = _find_columns(record)
    if not answers or _find_unclear(record, answers, raters):
        return False
    used = (*raters, *answers, find_prompt(record, answers), *find_policies(record, answers))
    others = like(record, {key: value for key, value in record.items() if key not in used})
    return (
        not all(_is_blank(record[key]) for key in raters)
        and not holds_verdict(others)
        and not any(read_verdict(value, answers) for value in others.values())
    )


def _are_of_several(records: Sequence[Record]) -> bool:
    """Return whether the records have verdicts of several annotators. Blank cells of a table are not in its rows."""
    return len({key for record in records for key in _find_raters(record)}) >= FEWEST


def _find_unclear(record: Record, answers: list[str], raters: list[str]) -> str:
    """Return the first column of a rater whose cell is neither empty nor a verdict, or an empty text."""
    unclear = (
        key
        for key in raters
        if not _is_blank(record[key]) and not _read_verdict(record, record[key], answers)
    )
    return next(unclear, "")


def _explain(record: Record) -> str:
    """Return which cell is not understood; an empty text for a record that is wrong otherwise."""
    answers, raters = _find_columns(record)
    if not (column := _find_unclear(record, answers, raters) if answers else ""):
        return ""
    return _("“%(value)s” in %(column)s is not a verdict that is known.") % {
        "value": printable(str(record[column]), 40),
        "column": printable(column, 40),
    }


def _read_verdict(record: Record, value: object, answers: list[str]) -> Opinion | None:
    return read_winner(value, answers, [record.get(policy) for policy in find_policies(record, answers)])


def _read(record: Record) -> Candidate:
    texts, (answers, raters) = read_texts(record), _find_columns(record)
    opinions = [
        said._replace(annotator=key)
        for key in raters
        if not _is_blank(record[key]) and (said := _read_verdict(record, record[key], answers)) is not None
    ]
    return texts.candidate(record, raters, opinions)


RATERS = Format(
    "side-by-side-raters",
    noop("Two completions with the verdicts of several annotators"),
    JUDGED,
    _fits,
    _read,
    explain=_explain,
    fits_together=_are_of_several,
    opens_cells=True,
)
