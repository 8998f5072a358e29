"""PandaLM, Auto-J, LLMBar and OffsetBias: pairs of responses with verdicts, each with its own numbers."""

import re
from collections.abc import Iterator, Mapping, Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

FIRST, SECOND, TIE = fields.chosen(0), fields.chosen(1), (0.5, 0.5)


def _scores(record: Record, key: str, codes: Mapping[int, tuple[float, ...]]) -> tuple[float, ...]:
    value = fields.number(record[key], key)
    if value not in codes:
        values = ", ".join(map(str, codes))
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": key, "values": values}, key)
    return codes[int(value)]


def _is_code(value: object, *codes: int) -> bool:
    """Return whether a number is one of a benchmark’s: another benchmark may write the same keys with others."""
    return fields.is_number(value) and fields.number(value, "label") in codes


# --- PandaLM -----------------------------------------------------------------------------------------------------

ANNOTATOR = re.compile(r"annotator[0-9]+")


def _fits_pandalm(record: Record) -> bool:
    return fields.has_texts(record, "instruction", "response1", "response2") and bool(_annotators(record))


def _annotators(record: Record) -> list[str]:
    return [key for key in record if isinstance(key, str) and ANNOTATOR.fullmatch(key)]


def _read_pandalm(record: Record) -> Candidate:
    first, second = _models(record.get("cmp_key"))
    policies = ("cmp_key",) if first else ()
    used = ("instruction", "input", "response1", "response2", "idx", *policies, *_annotators(record))
    return fields.candidate(
        record,
        used,
        fields.join(record["instruction"], record.get("input")),
        [Answer(record["response1"], first), Answer(record["response2"], second)],
        _pandalm_opinions(record),
        external_id=fields.name_of(record.get("idx")),
    )


def _pandalm_opinions(record: Record) -> Iterator[Opinion]:
    for key in _annotators(record):
        if record[key] not in (None, ""):
            yield Opinion(_scores(record, key, {0: TIE, 1: FIRST, 2: SECOND}), annotator=key)


def _models(names: object) -> tuple[str, str]:
    """Return the two models of a key such as “bloom-7b_llama-7b”."""
    parts = names.split("_") if isinstance(names, str) else []
    return (parts[0], parts[1]) if len(parts) == 2 and all(parts) else ("", "")


def _pandalm_counts_from_one(records: Sequence[Record]) -> bool:
    """Return whether some verdict is 2, or none is 0: zeros and ones alone may name the responses from 0 on.

    They do not where PandaLM's name of two models or a second annotator says whose records these are.
    """
    if any("cmp_key" in record or len(_annotators(record)) > 1 for record in records):
        return True
    said = [record[key] for record in records for key in _annotators(record)]
    return any(_is_code(value, 2) for value in said) or not any(_is_code(value, 0) for value in said)


PANDALM = Format(
    "pandalm",
    noop("PandaLM"),
    JUDGED,
    _fits_pandalm,
    _read_pandalm,
    fits_together=_pandalm_counts_from_one,
)


# --- Auto-J ------------------------------------------------------------------------------------------------------

RESPONSES = ("response 1", "response 2")


def _fits_autoj(record: Record) -> bool:
    is_pair = fields.has_texts(record, "prompt", *RESPONSES)
    return is_pair and "scenario" in record and _is_code(record.get("label"), 0, 1, 2)


def _read_autoj(record: Record) -> Candidate:
    return fields.candidate(
        record,
        ("prompt", "label", *RESPONSES),
        record["prompt"],
        [Answer(record[response]) for response in RESPONSES],
        [Opinion(_scores(record, "label", {0: FIRST, 1: SECOND, 2: TIE}))],
    )


AUTO_J = Format("auto-j", noop("Auto-J"), JUDGED, _fits_autoj, _read_autoj)


# --- LLMBar ------------------------------------------------------------------------------------------------------


ASKED = ("input", "instruction")  # the latter of OffsetBias


def _is_pair(record: Record) -> bool:
    said = [record[key] for key in ASKED if record.get(key) not in (None, "")]
    return len(said) == 1 and isinstance(said[0], str) and fields.has_texts(record, "output_1", "output_2")


def _fits_llmbar(record: Record) -> bool:
    return _is_pair(record) and _is_code(record.get("label"), 1, 2)


def _counts_from_zero(record: Record) -> bool:
    return _is_pair(record) and _is_code(record.get("label"), 0)


def _read_llmbar(record: Record) -> Candidate:
    return fields.candidate(
        record,
        (*ASKED, "output_1", "output_2", "label"),
        record[next(key for key in ASKED if record.get(key))],
        [Answer(record["output_1"]), Answer(record["output_2"])],
        [Opinion(_scores(record, "label", {1: FIRST, 2: SECOND}))],
    )


LLMBAR = Format(
    "llmbar",
    noop("LLMBar, OffsetBias"),
    JUDGED,
    _fits_llmbar,
    _read_llmbar,
    contradicts=_counts_from_zero,
)
