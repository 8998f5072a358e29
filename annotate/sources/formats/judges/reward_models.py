"""Benchmarks and training data of reward models and judges: RewardBench 2, RM-Bench, RM-Gallery and others."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import CHOSEN
from annotate.sources.formats.verdicts import read_verdict
from annotate.sources.formats.views import is_list_of_texts
from annotate.sources.messages import is_chat, read_chat

# --- RewardBench 2 and RM-Bench ----------------------------------------------------------------------------------

LARGEST = 64  # completions of a record


def _fits_lists(record: Record) -> bool:
    """Return whether one side is a list of texts, and the other side a list of texts or a text."""
    lists = [is_list_of_texts(record.get(side)) for side in CHOSEN]
    return (
        fields.has_texts(record, "prompt")
        and any(lists)
        and all(
            is_list or isinstance(record.get(side), str) for is_list, side in zip(lists, CHOSEN, strict=True)
        )
    )


def _read_lists(record: Record) -> Iterator[Candidate]:
    """Yield each chosen completion beside each rejected one. Of two chosen ones the record says nothing."""
    chosen, rejected = ([record[side]] if isinstance(record[side], str) else record[side] for side in CHOSEN)
    texts = [*chosen, *rejected]
    if len(texts) > LARGEST:
        raise RecordError(
            _("It has %(count)s completions; at most %(limit)s are taken.")
            % {"count": len(texts), "limit": LARGEST}
        )
    models = record.get("models")
    known = isinstance(models, list) and len(models) == len(texts)
    answers = [
        Answer(text, fields.name_of(models[place]) if known else "")  # type: ignore[index]
        for place, text in enumerate(texts)
    ]
    used = ("prompt", *CHOSEN, *(["models"] if known else []))
    for better, worse in product(range(len(chosen)), range(len(chosen), len(texts))):
        found = fields.candidate(
            record, used, record["prompt"], [answers[better], answers[worse]], [Opinion(fields.PREFERRED)]
        )
        if found.external_id and len(texts) > 2:
            found.prompt_external_id = found.external_id
            found.external_id += f"/{better + 1}-{worse + 1}"
        yield found


LISTS = Format("reward-bench", noop("RewardBench 2, RM-Bench"), JUDGED, _fits_lists, _read_lists)


# --- Prometheus --------------------------------------------------------------------------------------------------

RESPONSES = ("orig_response_A", "orig_response_B")


def _fits_prometheus(record: Record) -> bool:
    return fields.has_texts(record, "orig_instruction", *RESPONSES, "orig_preference")


def _read_prometheus(record: Record) -> Candidate:
    verdict = read_verdict(record["orig_preference"])
    if verdict is None:
        raise RecordError(
            _("%(name)s must be %(values)s.") % {"name": "orig_preference", "values": "A, B"},
            "orig_preference",
        )
    return fields.candidate(
        record,
        ("orig_instruction", *RESPONSES, "orig_preference"),
        record["orig_instruction"],
        [Answer(record[response]) for response in RESPONSES],
        [verdict],
    )


PROMETHEUS = Format(
    "prometheus", noop("Prometheus (Preference Collection)"), JUDGED, _fits_prometheus, _read_prometheus
)


# --- JudgeLM -----------------------------------------------------------------------------------------------------

BODIES = ("answer1_body", "answer2_body")
MODELS = ("answer1_model_id", "answer2_model_id")


def _fits_judgelm(record: Record) -> bool:
    score = record.get("score")
    is_pair = fields.has_texts(record, "question_body", *BODIES)
    return is_pair and isinstance(score, list) and len(score) == 2 and all(map(fields.is_number, score))


def _read_judgelm(record: Record) -> Candidate:
    """Return two answers with the scores that a judge gave. Both are -1 where its words could not be read."""
    scores: list[Any] = [fields.number(score, "score") for score in record["score"]]
    return fields.candidate(
        record,
        ("question_body", *BODIES, *MODELS, "score", "question_id"),
        record["question_body"],
        [
            Answer(record[body], fields.name_of(record.get(model)))
            for body, model in zip(BODIES, MODELS, strict=True)
        ],
        [Opinion(tuple(scores))] if min(scores) >= 0 else [],
        external_id=fields.name_of(record.get("question_id")),
    )


JUDGELM = Format("judgelm", noop("JudgeLM"), JUDGED, _fits_judgelm, _read_judgelm)


# --- RM-Gallery --------------------------------------------------------------------------------------------------

LABELS = {"chosen": 1.0, "rejected": 0.0}


def _outputs(record: Record) -> list[Record]:
    """Return the answers of a sample of which each has a label; none if it is something else."""
    outputs = record.get("output")
    found = [item["answer"] for item in outputs] if fields.are_objects(outputs, "answer") else []  # type: ignore[union-attr]
    return found if fields.are_objects(found, "content", "label") else []


def _fits_gallery(record: Record) -> bool:
    outputs = _outputs(record)
    return (
        is_chat(record.get("input"))
        and len(outputs) > 1
        and all(
            isinstance(item["label"], Mapping) and fields.name_of(item["label"].get("preference")) in LABELS
            for item in outputs
        )
    )


def _read_gallery(record: Record) -> Candidate:
    outputs = _outputs(record)
    scores = tuple(LABELS[item["label"]["preference"]] for item in outputs)
    return fields.candidate(
        record,
        ("input", "output", "unique_id", "metadata"),
        read_chat(record["input"], "input"),
        [
            Answer(fields.text(item, "content"), fields.name_of(item["label"].get("model")))
            for item in outputs
        ],
        [Opinion(scores, names_best=len(scores) > 2)],
        external_id=fields.name_of(record.get("unique_id")),
    )


GALLERY = Format("rm-gallery", noop("RM-Gallery"), JUDGED, _fits_gallery, _read_gallery)
