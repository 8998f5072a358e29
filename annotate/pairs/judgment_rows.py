"""Judgments as rows, with their history and what they are about."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models.functions import Coalesce

from annotate.judgments.aspects import titles_of
from annotate.models import Aspect, Judgment, Project
from annotate.pairs.filters import Filters
from annotate.pairs.streams import stream_rows
from annotate.pairs.texts import as_text, in_order, parse, with_json_as_text
from annotate.people.pseudonyms import pseudonym

JUDGMENT_COLUMNS = (
    "judgment", "comparison", "external_id", "metadata", "kind", "batch", "gold", "held_out", "prompt_id",
    "prompt_external_id", "prompt_metadata", "annotator", "imported", "verdict", "preferred", "strength", "skip_reason",
    "left", "right", "left_policy", "right_policy", "reasons", "reason_titles", "criteria", "criterion_titles",
    "rationale", "seconds", "late", "too_fast", "replaces", "current", "first_at", "created_at",
)  # fmt: skip


class _Judged(NamedTuple):
    """The columns that a row is made of, by their paths."""

    pk: int
    comparison_id: int
    external_id: str
    comparison__metadata: str
    comparison__kind: str
    comparison__batch: str
    comparison__gold_preferred_id: int | None
    comparison__prompt__held_out: bool
    comparison__prompt_id: int
    comparison__prompt__external_id: str
    comparison__prompt__metadata: str
    annotator_id: int
    import_batch: str
    verdict: str
    preferred_id: int | None
    strength: int | None
    skip_reason: str
    left_id: int
    right_id: int
    left__policy__name: str
    right__policy__name: str
    sides_known: bool
    reasons: str
    criteria: str
    rationale: str
    seconds: float | None
    late: bool
    too_fast: bool
    replaces_id: int | None
    superseded_at: datetime | None
    first_at: datetime
    created_at: datetime


def judgment_rows(project: Project, filters: Filters | None = None) -> Iterator[dict[str, Any]]:
    """Yield one row a judgment, history too (`current` is false there), in the order in which they were given."""
    condition = (filters or Filters(held_out="include")).judgments()
    reasons, criteria = project.all_reasons, project.all_criteria
    judgments = Judgment.objects.filter(condition, project=project).annotate(
        # A repeat has that of what it repeats.
        external_id=Coalesce("comparison__repeat_of__external_id", "comparison__external_id"),
    )
    rows = judgments.order_by("pk").values_list(*with_json_as_text(_Judged._fields))
    for judged in map(_Judged._make, stream_rows(rows)):
        yield _row(judged, reasons, criteria)


def _row(judged: _Judged, reasons: list[Aspect], criteria: list[Aspect]) -> dict[str, Any]:
    named, said, is_known = parse(judged.reasons), parse(judged.criteria), judged.sides_known
    return {
        "judgment": judged.pk,
        "comparison": judged.comparison_id,
        "external_id": judged.external_id,
        "metadata": in_order(judged.comparison__metadata),
        "kind": judged.comparison__kind,
        "batch": judged.comparison__batch,
        "gold": judged.comparison__gold_preferred_id,
        "held_out": judged.comparison__prompt__held_out,
        "prompt_id": judged.comparison__prompt_id,
        "prompt_external_id": judged.comparison__prompt__external_id,
        "prompt_metadata": in_order(judged.comparison__prompt__metadata),
        "annotator": pseudonym(judged.annotator_id),
        "imported": bool(judged.import_batch),
        "verdict": judged.verdict,
        "preferred": judged.preferred_id,
        "strength": judged.strength,
        "skip_reason": judged.skip_reason,
        "left": judged.left_id if is_known else None,
        "right": judged.right_id if is_known else None,
        "left_policy": judged.left__policy__name if is_known else None,
        "right_policy": judged.right__policy__name if is_known else None,
        "reasons": named,
        "reason_titles": titles_of(reasons, named),
        "criteria": as_text(said),
        "criterion_titles": titles_of(criteria, said),
        "rationale": judged.rationale,
        "seconds": judged.seconds,
        "late": judged.late,
        "too_fast": judged.too_fast,
        "replaces": judged.replaces_id,
        "current": judged.superseded_at is None,
        "first_at": judged.first_at.isoformat(),
        "created_at": judged.created_at.isoformat(),
    }
