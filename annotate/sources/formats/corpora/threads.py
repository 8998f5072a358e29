"""Answers of forums and of the web: Stack Exchange, SHP, WebGPT, and PKU-SafeRLHF."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import preferred

# --- Stack Exchange ----------------------------------------------------------------------------------------------


def _fits_exchange(record: Record) -> bool:
    if not fields.has_texts(record, "question"):
        return False
    return fields.has_texts(record, "response_j", "response_k") or fields.are_objects(
        record.get("answers"), "text", "pm_score"
    )


def _read_exchange(record: Record) -> Candidate:
    """Return response_j, which got more votes than response_k, or all answers with their score."""
    used = ("question", "response_j", "response_k", "answers", "qid")
    more: dict[str, Any] = {"external_id": fields.name_of(record.get("qid", record.get("id")))}
    if "response_j" in record:
        return preferred(
            record, used, record["question"], [record["response_j"], record["response_k"]], **more
        )
    answers = fields.objects(record, "answers")
    return fields.candidate(
        record,
        used,
        record["question"],
        [
            Answer(fields.text(item, "text"), metadata=fields.rest(item, "text", "pm_score") or {})
            for item in answers
        ],
        [Opinion(tuple(fields.number(item["pm_score"], "pm_score") for item in answers))],
        **more,
    )


STACK_EXCHANGE = Format(
    "stack-exchange", noop("Stack Exchange pairs"), JUDGED, _fits_exchange, _read_exchange
)


# --- SHP ---------------------------------------------------------------------------------------------------------


def _fits_shp(record: Record) -> bool:
    return fields.has_texts(record, "history", "human_ref_A", "human_ref_B") and fields.has_any(
        record, "labels"
    )


def _read_shp(record: Record) -> Candidate:
    """Return two comments to a post. The label is 1 where the first is preferred."""
    label = fields.number(record["labels"], "labels")
    if label not in (0, 1):
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": "labels", "values": "0, 1"}, "labels")
    return fields.candidate(
        record,
        ("history", "human_ref_A", "human_ref_B", "labels", "post_id", *("score_A", "score_B")),
        record["history"],
        [Answer(record[f"human_ref_{side}"], metadata=_score(record, side)) for side in "AB"],
        [Opinion(fields.chosen(0 if label else 1))],
        prompt_external_id=fields.name_of(record.get("post_id")),
    )


def _score(record: Record, side: str) -> dict[str, Any]:
    score = record.get(f"score_{side}")
    return {} if score is None else {"score": score}


SHP = Format("shp", noop("Stanford Human Preferences (SHP)"), JUDGED, _fits_shp, _read_shp)


# --- WebGPT ------------------------------------------------------------------------------------------------------


def _fits_webgpt(record: Record) -> bool:
    question = record.get("question")
    is_question = isinstance(question, Mapping) and isinstance(question.get("full_text"), str)
    return (
        is_question
        and fields.has_texts(record, "answer_0", "answer_1")
        and fields.is_number(record.get("score_0"))
    )


def _read_webgpt(record: Record) -> Candidate:
    return fields.candidate(
        record,
        ("answer_0", "answer_1", "score_0", "score_1"),
        record["question"]["full_text"],
        [Answer(record["answer_0"]), Answer(record["answer_1"])],
        [Opinion(tuple(fields.number(record.get(key), key) for key in ("score_0", "score_1")))],
        prompt_external_id=fields.name_of(record["question"].get("id")),
    )


WEBGPT = Format("webgpt", noop("WebGPT comparisons"), JUDGED, _fits_webgpt, _read_webgpt)


# --- PKU-SafeRLHF ------------------------------------------------------------------------------------------------

RESPONSES = ("response_0", "response_1")


def _fits_safe(record: Record) -> bool:
    return fields.has_texts(record, "prompt", *RESPONSES) and fields.has_any(
        record, "better_response_id", "safer_response_id"
    )


def _read_safe(record: Record) -> Candidate:
    """Return two responses and which is better. Which is safer stays metadata, unless it is all there is."""
    key = "better_response_id" if record.get("better_response_id") is not None else "safer_response_id"
    place = fields.number(record[key], key)
    if place not in (0, 1):
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": key, "values": "0, 1"}, key)
    sources = ("response_0_source", "response_1_source")
    return fields.candidate(
        record,
        ("prompt", *RESPONSES, key, *sources),
        record["prompt"],
        [
            Answer(record[response], fields.name_of(record.get(source)))
            for response, source in zip(RESPONSES, sources, strict=True)
        ],
        [Opinion(fields.chosen(int(place)))],
    )


SAFE = Format("safe-rlhf", noop("PKU-SafeRLHF"), JUDGED, _fits_safe, _read_safe)
