"""Judgments as rows, with their history and what they are about."""

from collections.abc import Iterator
from typing import Any, cast

from django.db.models import F, TextField
from django.db.models.functions import Cast, Coalesce

from annotate.judgments.aspects import titles_of
from annotate.models import Judgment, Project
from annotate.pairs.filters import Filters
from annotate.pairs.texts import as_text, in_order
from annotate.people.pseudonyms import pseudonym

JUDGMENT_COLUMNS = (
    "judgment", "comparison", "external_id", "metadata", "kind", "batch", "gold", "held_out", "prompt_id",
    "prompt_external_id", "prompt_metadata", "annotator", "imported", "verdict", "preferred", "strength", "skip_reason",
    "left", "right", "left_policy", "right_policy", "reasons", "reason_titles", "criteria", "criterion_titles",
    "rationale", "seconds", "late", "too_fast", "replaces", "current", "first_at", "created_at",
)  # fmt: skip


def judgment_rows(project: Project, filters: Filters | None = None) -> Iterator[dict[str, Any]]:
    """One row a judgment, history too (`current` is false there), in the order in which they were given."""
    condition = (filters or Filters(held_out=True)).judgments()
    reasons, criteria = project.all_reasons, project.all_criteria
    of_comparison = {
        "kind": F("comparison__kind"),
        "batch": F("comparison__batch"),
        "gold": F("comparison__gold_preferred"),
        # A repeat has that of what it repeats.
        "external_id": Coalesce("comparison__repeat_of__external_id", "comparison__external_id"),
        "metadata": Cast("comparison__metadata", TextField()),
        "prompt_id": F("comparison__prompt"),
        "prompt_external_id": F("comparison__prompt__external_id"),
        "prompt_metadata": Cast("comparison__prompt__metadata", TextField()),
        "held_out": F("comparison__prompt__held_out"),
        "left_policy": F("left__policy__name"),
        "right_policy": F("right__policy__name"),
    }
    judgments = Judgment.objects.filter(condition, project=project).annotate(**of_comparison)
    for values in judgments.order_by("pk").values().iterator(chunk_size=2_000):
        row = cast(dict[str, Any], values)  # the stubs do not know what was annotated
        found = row | {
            "judgment": row["id"],
            "comparison": row["comparison_id"],
            "metadata": in_order(row["metadata"]),
            "prompt_metadata": in_order(row["prompt_metadata"]),
            "annotator": pseudonym(row["annotator_id"]),
            "preferred": row["preferred_id"],
            **({} if row["sides_known"] else dict.fromkeys(("left_policy", "right_policy"))),
            "left": row["left_id"] if row["sides_known"] else None,
            "right": row["right_id"] if row["sides_known"] else None,
            "imported": bool(row["import_batch"]),
            "reason_titles": titles_of(reasons, row["reasons"]),
            "criteria": as_text(row["criteria"]),
            "criterion_titles": titles_of(criteria, row["criteria"]),
            "replaces": row["replaces_id"],
            "current": row["superseded_at"] is None,
            "first_at": row["first_at"].isoformat(),
            "created_at": row["created_at"].isoformat(),
        }
        yield {column: found[column] for column in JUDGMENT_COLUMNS}
