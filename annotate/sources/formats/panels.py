"""Two completions in columns, and a column with the verdicts of each annotator."""

import re

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.signs import holds_verdict
from annotate.sources.formats.tools.side_by_side import read_texts
from annotate.sources.formats.verdicts import find_answers, find_policies, find_prompt, read_winner

FEWEST = 2  # columns: one alone is of what it says, and not of who says it
RATER = re.compile(
    r"(rater|annotator|ann|judge|worker|labell?er|evaluator|reviewer|expert|coder)([ _-].+|[0-9]+)",
    re.IGNORECASE,
)
ABOUT = re.compile(
    r".*[ _-](id|ids|name|email|hash|time|seconds|comment|comments|reason|notes?)", re.IGNORECASE
)


def _raters(record: Record) -> list[str]:
    return [
        key for key in record if isinstance(key, str) and RATER.fullmatch(key) and not ABOUT.fullmatch(key)
    ]


def _fits(record: Record) -> bool:
    raters = _raters(record)
    answers = find_answers(record) if len(raters) >= FEWEST else []
    if len(answers) != 2 or not find_prompt(record, answers):
        return False
    said = [record[key] for key in raters if record[key] not in (None, "")]
    return (
        bool(said)
        and all(_read_verdict(record, value, answers) for value in said)
        and not holds_verdict(record, *raters, *answers)
    )


def _read_verdict(record: Record, value: object, answers: list[str]) -> Opinion | None:
    return read_winner(value, answers, [record.get(policy) for policy in find_policies(record, answers)])


def _read(record: Record) -> Candidate:
    texts, answers, raters = read_texts(record), find_answers(record), _raters(record)
    opinions = [
        said._replace(annotator=key)
        for key in raters
        if (said := _read_verdict(record, record[key], answers)) is not None
    ]
    return texts.candidate(record, raters, opinions)


RATERS = Format(
    "side-by-side-raters",
    noop("Two completions with the verdicts of several annotators"),
    JUDGED,
    _fits,
    _read,
)
