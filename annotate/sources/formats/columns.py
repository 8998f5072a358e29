"""Two completions in columns of their own, with a verdict in words: files that teams make for themselves."""

import re

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.tools.side_by_side import has_texts, read_texts
from annotate.sources.formats.verdicts import VERDICT, find_answers, read_verdict

ANNOTATOR = ("annotator", "annotator_id", "worker", "worker_id", "rater", "rater_id", "judge", "user_id")
RATIONALE = ("rationale", "reason", "explanation", "justification", "comment")
SAYS = re.compile(rf"{VERDICT.pattern}|label|choice|score|answer|correct|gold|target", re.IGNORECASE)


def _verdict_keys(record: Record) -> list[str]:
    """Return the columns that may say which completion is better."""
    used = {*find_answers(record), *ANNOTATOR, *RATIONALE}
    said = {key for key, value in record.items() if value not in (None, "", [])}
    return [key for key in record if key in said - used and SAYS.search(key)]


def _fits(record: Record) -> bool:
    if not all(isinstance(key, str) for key in record) or not has_texts(record) or "items" in record:
        return False
    answers, verdicts = find_answers(record), _verdict_keys(record)
    if len(answers) != 2 or len(verdicts) > 1:
        return False
    return not verdicts or read_verdict(record[verdicts[0]], answers) is not None


def _read(record: Record) -> Candidate:
    texts, verdicts = read_texts(record), _verdict_keys(record)
    annotator = next((key for key in ANNOTATOR if fields.name_of(record.get(key))), "")
    rationale = next((key for key in RATIONALE if isinstance(record.get(key), str)), "")
    if not verdicts:
        return texts.candidate(record, (), [])
    verdict = read_verdict(record[verdicts[0]], texts.names) or Opinion()
    opinion = Opinion(
        verdict.scores,
        verdict.verdict,
        fields.name_of(record.get(annotator)),
        verdict.strength,
        record[rationale] if rationale else "",
    )
    return texts.candidate(record, (*verdicts, annotator, rationale), [opinion])


SIDE_BY_SIDE = Format("side-by-side", noop("Two completions with a verdict"), JUDGED, _fits, _read)
