"""NVIDIA's HelpSteer: ratings of single responses, and preferences with strength and reasons."""

from collections.abc import Iterator

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.verdicts import read_scale
from annotate.sources.messages import has_extra_ids, is_chat, read_chat, read_extra_ids

USER_TAG = "<extra_id_1>User"

# --- Ratings -----------------------------------------------------------------------------------------------------


def _fits_ratings(record: Record) -> bool:
    aspects = ("helpfulness", "correctness", "coherence")
    return fields.has_texts(record, "prompt", "response") and all(
        fields.is_number(record.get(key)) for key in aspects
    )


def _read_ratings(record: Record) -> Candidate:
    helpfulness = fields.number(record["helpfulness"], "helpfulness")
    answers = [Answer(record["response"])]
    return fields.candidate(
        record, ("prompt", "response"), _prompt(record), answers, [Opinion((helpfulness,))]
    )


def _prompt(record: Record) -> Content:
    """Return a prompt. One of several turns begins with the user's, without its tag."""
    text: str = record["prompt"]
    if not has_extra_ids(text):
        return text
    return read_extra_ids(text if text.startswith("<extra_id_") else f"{USER_TAG}\n{text}", "prompt")


RATINGS = Format("helpsteer", noop("HelpSteer (ratings)"), JUDGED, _fits_ratings, _read_ratings)


# --- Preferences -------------------------------------------------------------------------------------------------


def _fits_preference(record: Record) -> bool:
    responses = ("response_1", "response_2")
    return fields.has_texts(record, "prompt", *responses) and fields.is_number(
        record.get("preference_strength")
    )


def _read_preference(record: Record) -> Candidate:
    rationale = " ".join(
        record[key]
        for key in ("preference_statement", "preference_elaboration")
        if isinstance(record.get(key), str)
    )
    strength = fields.number(record["preference_strength"], "preference_strength")
    return fields.candidate(
        record,
        (
            "prompt",
            "response_1",
            "response_2",
            "preference_strength",
            "preference_statement",
            "preference_elaboration",
        ),
        _prompt(record),
        [Answer(record["response_1"]), Answer(record["response_2"])],
        [read_scale(strength, rationale=rationale)],
    )


PREFERENCE = Format(
    "helpsteer2", noop("HelpSteer2 (preferences)"), JUDGED, _fits_preference, _read_preference
)


# --- HelpSteer3 --------------------------------------------------------------------------------------------------


def _fits_third(record: Record) -> bool:
    is_pair = is_chat(record.get("context")) and fields.has_texts(record, "response1", "response2")
    return is_pair and fields.is_number(record.get("overall_preference"))


def _read_third(record: Record) -> Candidate:
    used = ("context", "response1", "response2", "overall_preference", "individual_preference")
    answers = [Answer(record["response1"]), Answer(record["response2"])]
    return fields.candidate(
        record, used, read_chat(record["context"], "context"), answers, _individual(record)
    )


def _individual(record: Record) -> Iterator[Opinion]:
    """Yield each annotator's preference, or the overall one where there are none."""
    if not record.get("individual_preference"):
        yield read_scale(fields.number(record["overall_preference"], "overall_preference"))
        return
    for number, item in enumerate(fields.objects(record, "individual_preference"), start=1):
        reasoning = item.get("reasoning")
        yield read_scale(
            fields.number(item.get("score"), "individual_preference.score"),
            annotator=str(number),
            rationale=reasoning if isinstance(reasoning, str) else "",
        )


THIRD = Format("helpsteer3", noop("HelpSteer3 (preferences)"), JUDGED, _fits_third, _read_third)
