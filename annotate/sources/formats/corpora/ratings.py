"""Several completions of a prompt with ratings or ranks: UltraFeedback, Nectar, distilabel, and lists by model."""

import re
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import COMPARISONS, JUDGED, Format, Record
from annotate.sources.formats.signs import holds_verdict
from annotate.sources.messages import as_answer, is_transcript, read_content, read_transcript

# --- UltraFeedback -----------------------------------------------------------------------------------------------


def _fits_ultrafeedback(record: Record) -> bool:
    return fields.has_texts(record, "instruction") and fields.are_objects(
        record.get("completions"), "response", "annotations"
    )


def _read_ultrafeedback(record: Record) -> Candidate:
    completions = fields.objects(record, "completions")
    means = mean_ratings([completion.get("annotations") for completion in completions])
    answers = [
        Answer(
            fields.text(completion, "response"),
            fields.name_of(completion.get("model")),
            fields.rest(completion, "response", "model") or {},
        )
        for completion in completions
    ]
    return fields.candidate(
        record,
        ("instruction", "completions", "models"),
        record["instruction"],
        answers,
        [Opinion(tuple(map(_score, completions, means)))],
    )


def mean_ratings(annotations: Iterable[object]) -> list[float | None]:
    """Return the mean rating of each completion, over those aspects that all rated completions were rated in."""
    rated = [
        {
            name: fields.number(aspect["Rating"], "Rating")
            for name, aspect in (aspects.items() if isinstance(aspects, Mapping) else ())
            if isinstance(aspect, Mapping) and fields.is_number(aspect.get("Rating"))
        }
        for aspects in annotations
    ]
    common = set.intersection(*({*ratings} for ratings in rated if ratings)) if any(rated) else set()
    return [mean(ratings[name] for name in common) if ratings and common else None for ratings in rated]


def _score(completion: Mapping[str, Any], rating: float | None) -> float | None:
    """Return the mean of the aspects' ratings. The overall score is used where there is none: some are wrong."""
    if fields.is_number(score := completion.get("fine-grained_score")):
        return fields.number(score, "fine-grained_score")
    if rating is not None:
        return rating
    score = completion.get("overall_score")
    return fields.number(score, "overall_score") if fields.is_number(score) else None


ULTRAFEEDBACK = Format(
    "ultrafeedback", noop("UltraFeedback (ratings)"), JUDGED, _fits_ultrafeedback, _read_ultrafeedback
)


# --- CodeUltraFeedback -------------------------------------------------------------------------------------------


def _fits_code(record: Record) -> bool:
    is_rated = fields.are_objects(record.get("annotations"), "model", "rating")
    return (
        is_rated
        and fields.has_texts(record, "instruction")
        and fields.are_objects(record.get("responses"), "model", "response")
    )


def _read_code(record: Record) -> Candidate:
    """Return responses with the ratings of their models, which are in an order of their own."""
    _check_models(record, "annotations")
    _check_models(record, "responses")
    rated = {fields.name_of(item["model"]): item for item in fields.objects(record, "annotations")}
    answers, scores = [], []
    for response in fields.objects(record, "responses"):
        model = fields.name_of(response["model"])
        rating = rated.get(model, {}).get("rating")
        scores.append(fields.number(rating, "rating") if fields.is_number(rating) else None)
        about = fields.rest(rated.get(model, {}), "model", "rating") or {}
        answers.append(Answer(fields.text(response, "response"), model, about))
    used = ("instruction", "models", "responses", "annotations")
    return fields.candidate(record, used, record["instruction"], answers, [Opinion(tuple(scores))])


def _check_models(record: Record, key: str) -> None:
    """Raise RecordError where a list names a model twice, so that a rating could be that of either response."""
    models = [fields.name_of(item["model"]) for item in fields.objects(record, key)]
    if len(set(models)) < len(models):
        raise RecordError(_("“%(name)s” names a model twice.") % {"name": key}, key)


CODE = Format("code-ultrafeedback", noop("CodeUltraFeedback (ratings)"), JUDGED, _fits_code, _read_code)


# --- Nectar ------------------------------------------------------------------------------------------------------


def _read_nectar(record: Record) -> Candidate:
    prompt, answers = fields.text(record, "prompt"), fields.objects(record, "answers")
    return fields.candidate(
        record,
        ("prompt", "answers"),
        read_transcript(prompt, "prompt") if is_transcript(prompt) else prompt,
        [Answer(fields.text(item, "answer"), fields.name_of(item.get("model"))) for item in answers],
        [Opinion(fields.ranked([fields.number(item.get("rank"), "rank") for item in answers]))],
    )


NECTAR = Format(
    "nectar",
    noop("Nectar (ranked answers)"),
    JUDGED,
    lambda record: (
        fields.has_texts(record, "prompt") and fields.are_objects(record.get("answers"), "answer", "rank")
    ),
    _read_nectar,
)


# --- distilabel --------------------------------------------------------------------------------------------------

RATINGS = ("ratings", "rating", "scores")
SCORE = re.compile(r"score|reward|(?<!un)label(s|$)", re.IGNORECASE)


def _instruction_key(record: Record) -> str:
    return next((key for key in ("instruction", "input", "prompt") if isinstance(record.get(key), str)), "")


def _fits_distilabel(record: Record) -> bool:
    generations: Any = record.get("generations")
    is_list = (
        isinstance(generations, list)
        and bool(generations)
        and all(isinstance(text, str) for text in generations)
    )
    if not is_list or not _instruction_key(record) or "chosen" in record:
        return False
    # A verdict of another kind would be forgotten.
    return bool(_aligned(record, RATINGS, len(generations))) or not _says_more(record)


def _says_more(record: Record) -> bool:
    """Return whether another key holds a rating or a verdict of the completions."""
    known = ("generation_models", "generations", "models", "model_names", "rationales", "rationale")
    return holds_verdict(record, *known) or any(_is_score(key, record[key]) for key in record)


def _is_score(key: object, value: object) -> bool:
    return value is not None and isinstance(key, str) and SCORE.search(key) is not None


def _read_distilabel(record: Record) -> Candidate:
    key, count = _instruction_key(record), len(record["generations"])
    models = _aligned(record, ("generation_models", "models", "model_names"), count)
    ratings = _aligned(record, RATINGS, count)
    rationales = _aligned(record, ("rationales", "rationale"), count)
    values = record[ratings] if ratings else []
    scores = tuple(fields.number(value, ratings) if fields.is_number(value) else None for value in values)
    return fields.candidate(
        record,
        (key, "generations", models, ratings, rationales, *fields.SYSTEM),
        fields.with_system(record[key], record),
        [
            Answer(
                text,
                fields.name_of(record[models][place]) if models else "",
                {"rationale": record[rationales][place]} if rationales else {},
            )
            for place, text in enumerate(record["generations"])
        ],
        [Opinion(scores)] if any(score is not None for score in scores) else [],
    )


def _aligned(record: Record, keys: tuple[str, ...], count: int) -> str:
    """Return the first of these keys whose list has an item for each completion."""
    return next((key for key in keys if isinstance(record.get(key), list) and len(record[key]) == count), "")


DISTILABEL = Format(
    "distilabel", noop("distilabel (generations)"), JUDGED, _fits_distilabel, _read_distilabel
)


# --- Completions by model ----------------------------------------------------------------------------------------


def _read_by_model(record: Record) -> Candidate:
    return fields.candidate(
        record,
        ("prompt", "completions"),
        read_content(record["prompt"], "prompt"),
        [
            Answer(
                as_answer(read_content(item.get("completion"), "completion"), "completion"),
                fields.name_of(item.get("model")),
                fields.rest(item, "completion", "model") or {},
            )
            for item in fields.objects(record, "completions")
        ],
    )


def _fits_by_model(record: Record) -> bool:
    completions = record.get("completions")
    if not fields.has_contents(record, "prompt") or not fields.are_objects(
        completions, "completion", "model"
    ):
        return False
    items = fields.objects(record, "completions")
    return not any(map(holds_verdict, (record, *items))) and not any(
        _is_score(key, value) for item in items for key, value in item.items()
    )


BY_MODEL = Format(
    "completions-by-model",
    noop("Completions by model (open-instruct)"),
    COMPARISONS,
    _fits_by_model,
    _read_by_model,
)
