"""Amazon SageMaker and Bedrock: what people said of models in an evaluation."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.tools.side_by_side import Rating, keep_readable, read_ratings, with_losses

RESULT, INPUT, RESPONSES, IDS = "humanEvaluationResult", "inputRecord", "modelResponses", "modelResponseIdMap"


def _loops(record: Record) -> list[Any]:
    """Return what was asked of people: Bedrock writes a list, SageMaker the only one."""
    found = record.get(RESULT)
    return found if isinstance(found, list) else [found]


def _fits(record: Record) -> bool:
    return (
        fields.are_objects(_loops(record), "humanAnswers")
        and isinstance(record.get(INPUT), Mapping)
        and fields.are_objects(record.get(RESPONSES), "modelIdentifier")
    )


def _text(value: object, name: str) -> str:
    """Return a text, which SageMaker puts into an object."""
    return fields.text(value, "text") if isinstance(value, Mapping) else fields.text({name: value}, name)


def _read(record: Record) -> Candidate:
    source, responses, loops = record[INPUT], fields.objects(record, RESPONSES), _loops(record)
    names = _names(record, loops, [fields.name_of(response["modelIdentifier"]) for response in responses])
    given = [answer for loop in loops for answer in fields.objects(loop, "humanAnswers")]
    opinions, unclear = keep_readable(given, lambda answer: _opinions(answer, names))
    found = fields.candidate(
        record,
        (),
        _text(source.get("prompt"), "prompt"),
        [
            Answer(
                fields.text(response, "text" if "text" in response else "response"),
                fields.name_of(response["modelIdentifier"]),
            )
            for response in responses
        ],
        opinions,
        metadata=fields.rest(source, "prompt", "responses"),
    )
    return with_losses(found, unclear)


def _names(record: Record, loops: list[Any], models: list[str]) -> list[str]:
    """Return what the answers of people call the responses, in the order of these. Raises RecordError."""
    known: Mapping[str, Any] = next(
        (one[IDS] for one in (*loops, record) if isinstance(one.get(IDS), Mapping)), {}
    )
    by_model = {fields.name_of(model): str(name) for name, model in known.items()}
    if len(by_model) < len(known) or not {*models} <= by_model.keys() or len(models) > len({*models}):
        raise RecordError(_("%(name)s does not name each response once.") % {"name": IDS}, IDS)
    return [by_model[model] for model in models]


def _opinions(answer: Mapping[str, Any], names: list[str]) -> Iterator[Opinion]:
    """Yield what a worker said. On a scale between two responses, AWS does not say which end is which."""
    content = answer.get("answerContent")
    results = content.get("evaluationResults") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping):
        raise RecordError(_("%(name)s is missing.") % {"name": "evaluationResults"}, "evaluationResults")
    choices = _choices(results, names)
    ratings = [*choices, *_ratings(results, names)]
    notes = dict(ratings)
    opinion, others = read_ratings([rating for rating, _note in ratings], names)
    if opinion is None:
        raise RecordError(
            _("An answer does not say of one metric, such as “Overall”, which response is better."), RESULT
        )
    scale = [
        f"{item.get('metricName')}: {item.get('result')}"
        for item in results.get("comparisonLikertScale") or ()
    ]
    yield opinion._replace(
        annotator=fields.name_of(answer.get("workerId")),
        rationale="\n".join([*dict.fromkeys(notes[rating] for rating in others), *scale]),
        seconds=fields.seconds(answer.get("timeSpentInSeconds")),
        at=fields.moment(answer.get("submissionTime")),
        names_best=len(names) > 2 and any(rating not in others for rating, _note in choices),
    )


def _choices(results: Mapping[str, Any], names: list[str]) -> list[tuple[Rating, str]]:
    """Return each choice of the best response as ratings of all under its metric, with what it says in words."""
    found = []
    for item in fields.objects({"comparisonChoice": [], **results}, "comparisonChoice"):
        metric, choice = fields.name_of(item.get("metricName")), item.get("result")
        said = fields.name_of(choice.get("modelResponseId")) if isinstance(choice, Mapping) else ""
        if said in names:
            found += [(Rating(metric, float(name == said), name), f"{metric}: {said}") for name in names]
    return found


def _ratings(results: Mapping[str, Any], names: list[str]) -> list[tuple[Rating, str]]:
    """Return each rating of a response under its metric, with what it says in words. The higher is the better one."""
    found = []
    for item in fields.objects({"comparisonRank": [], **results}, "comparisonRank"):
        metric = fields.name_of(item.get("metricName"))
        for ranked in fields.objects(item, "result"):
            name, rank = (
                fields.name_of(ranked.get("modelResponseId")),
                fields.number(ranked.get("rank"), "rank"),
            )
            found.append((Rating(metric, -rank, name), f"{metric} ({name}): rank {rank:g}"))
    for kind in ("individualLikertScale", "thumbsUpDown"):
        for item in fields.objects({kind: [], **results}, kind):
            metric, name = (fields.name_of(item.get(key)) for key in ("metricName", "modelResponseId"))
            value = item.get("result")
            score = float(value) if isinstance(value, bool) else fields.number(value, "result")
            found.append((Rating(metric, score, name), f"{metric} ({name}): {value}"))
    return [(rating, note) for rating, note in found if rating.of in names]


EVALUATIONS = Format("sagemaker", noop("Amazon SageMaker and Bedrock (evaluations)"), JUDGED, _fits, _read)
