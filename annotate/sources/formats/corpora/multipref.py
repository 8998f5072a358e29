"""MultiPref: pairs that crowd workers and experts judged, each on five steps."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.signs import has_winner
from annotate.sources.formats.verdicts import read_verdict
from primitives.text import printable

COMPLETIONS = ("completion_a", "completion_b")
ANNOTATIONS = ("normal_worker_annotations", "expert_worker_annotations")
OVERALL, EVALUATOR, TIME = "overall_pref", "evaluator", "timestamp"


def _fits(record: Record) -> bool:
    is_pair = fields.has_texts(record, "text", *COMPLETIONS)
    return (
        is_pair
        and any(_has_overall(record.get(key)) for key in ANNOTATIONS)
        and not has_winner(record, COMPLETIONS, *ANNOTATIONS)
    )


def _has_overall(items: object) -> bool:
    """Return whether one of several annotations at least has an overall preference."""
    return isinstance(items, list) and any(isinstance(item, Mapping) and OVERALL in item for item in items)


def _read(record: Record) -> Candidate:
    """Return the pair with each annotator's overall preference. What else an annotator said is metadata."""
    groups = {key: fields.objects(record, key) for key in ANNOTATIONS if record.get(key)}
    said = {key: [fields.rest(item, *_used(item)) or {} for item in items] for key, items in groups.items()}
    metadata = fields.rest(record, "text", *COMPLETIONS, "model_a", "model_b", "comparison_id", *ANNOTATIONS)
    return fields.candidate(
        record,
        (),
        fields.text(record, "text"),
        [
            Answer(record[key], fields.name_of(record.get(model)))
            for key, model in zip(COMPLETIONS, ("model_a", "model_b"), strict=True)
        ],
        [opinion for items in groups.values() for opinion in _opinions(items)],
        external_id=fields.name_of(record.get("comparison_id")),
        metadata={**(metadata or {}), **said},
    )


def _used(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of an annotation that its opinion holds. A time that cannot be read is none of them."""
    if item.get(OVERALL) is None:
        return ()
    return (OVERALL, EVALUATOR, TIME) if fields.moment(item.get(TIME)) else (OVERALL, EVALUATOR)


def _opinions(items: list[Mapping[str, Any]]) -> Iterator[Opinion]:
    """Yield what annotators prefer overall. Raises RecordError for a word that is none of the five steps."""
    for item in items:
        value = item.get(OVERALL)
        if value is None:
            continue
        verdict = read_verdict(value.replace("-", " "), COMPLETIONS) if isinstance(value, str) else None
        if verdict is None:
            raise RecordError(
                _("%(name)s must be a tie, or say which completion is better: “%(value)s”.")
                % {"name": OVERALL, "value": printable(str(value), 40)},
                OVERALL,
            )
        yield verdict._replace(
            annotator=fields.name_of(item.get(EVALUATOR)), at=fields.moment(item.get(TIME))
        )


MULTIPREF = Format("multipref", noop("MultiPref"), JUDGED, _fits, _read)
