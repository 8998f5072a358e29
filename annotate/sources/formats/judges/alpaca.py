"""AlpacaEval and AlpacaFarm: an instruction, two outputs, and a preference from 1 (the first) to 2 (the second)."""

from collections.abc import Iterator, Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import COMPARISONS, JUDGED, Format, Record
from annotate.sources.formats.signs import holds_verdict

OUTPUTS = ("output_1", "output_2")
USED = ("instruction", "input", *OUTPUTS, "generator_1", "generator_2", "preference")
ANNOTATOR = ("annotator", "annotator_index")
PUBLISHED = ("generator_1", "generator_2", *ANNOTATOR)  # keys of AlpacaEval and AlpacaFarm alone
TIE = 0  # beside 1.5


def _fits_pair(record: Record) -> bool:
    return fields.has_texts(record, "instruction", *OUTPUTS) and "label" not in record


def _fits_judged(record: Record) -> bool:
    preference = record.get("preference")
    return (
        _fits_pair(record)
        and "preference" in record
        and (preference in (None, "") or fields.is_number(preference))
    )


def _read(record: Record) -> Candidate:
    annotator = next((key for key in ANNOTATOR if record.get(key) is not None), "")
    return fields.candidate(
        record,
        (*USED, annotator),
        fields.join(record["instruction"], record.get("input")),
        [
            Answer(record[output], fields.name_of(record.get(generator)))
            for output, generator in zip(OUTPUTS, ("generator_1", "generator_2"), strict=True)
        ],
        _opinions(record, fields.name_of(record.get(annotator))),
    )


def _opinions(record: Record, annotator: str) -> Iterator[Opinion]:
    """Yield the preference. One between 1 and 2 is the probability that the second output is the better one, and 1."""
    if record.get("preference") in (None, ""):
        return  # the judge's answer could not be read
    preference = fields.number(record["preference"], "preference")
    if preference != TIE and not 1 <= preference <= 2:
        raise RecordError(_("preference must be 0, or between 1 and 2."), "preference")
    second = 0.5 if preference == TIE else preference - 1
    yield Opinion((1 - second, second), annotator=annotator)


def _count_from_one(records: Sequence[Record]) -> bool:
    """Return whether preferences are from 1 to 2. Some that are 0, and none above 1, may name the outputs from 0 on.

    They do not where other keys say whose records these are.
    """
    if any(key in record for record in records for key in PUBLISHED):
        return True
    said = [record["preference"] for record in records if record.get("preference") not in (None, "")]
    numbers = [fields.number(value, "preference") for value in said]
    return TIE not in numbers or max(numbers) > 1


EVAL = Format(
    "alpaca-eval",
    noop("AlpacaEval, AlpacaFarm (preferences)"),
    JUDGED,
    _fits_judged,
    _read,
    fits_together=_count_from_one,
)


def _fits_farm(record: Record) -> bool:
    return _fits_pair(record) and not holds_verdict(record, *(key for key in USED if key != "preference"))


FARM = Format(
    "alpaca-farm",
    noop("AlpacaFarm (pairs)"),
    COMPARISONS,
    _fits_farm,
    _read,
    fits_together=lambda records: not any("preference" in record for record in records),
)
