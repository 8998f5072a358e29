"""Judged comparisons as rows: both completions, and every judgment about them, ties and skips included."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db.models import Exists, OuterRef

from annotate.judgments.aspects import titles_of
from annotate.models import Aspect, Comparison, Judgment, Project
from annotate.pairs.filters import Filters
from annotate.pairs.settings import PairSettings
from annotate.pairs.texts import in_one_type
from annotate.people.pseudonyms import pseudonym

AT_A_TIME = 500
Kind = Comparison.Kind
_UNSEEN = ("token_ids", "prompt_token_ids", "sampling")  # long columns that no row holds


def comparison_rows(
    project: Project, filters: Filters | None = None, settings: PairSettings | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one row a comparison with its present judgments.

    Comparisons that were withdrawn, repeats, and gold unless `settings` includes it, are left out as they are from
    the pairs.
    """
    filters, settings = filters or Filters(), settings or PairSettings()
    judgments = Judgment.objects.current().filter(filters.judgments(), project=project)
    left_out = [Kind.REPEAT] if settings.include_gold else [Kind.REPEAT, Kind.GOLD]
    comparisons = (
        Comparison.objects.filter(Exists(judgments.filter(comparison=OuterRef("pk"))), project=project)
        .filter(withdrawn_at=None)
        .exclude(kind__in=left_out)
        .select_related("prompt", "first__policy", "second__policy")
        .defer(*(f"{side}__{name}" for side in ("first", "second") for name in _UNSEEN))
        .order_by("pk")
        .iterator(chunk_size=AT_A_TIME)
    )
    reasons = project.all_reasons
    while some := list(islice(comparisons, AT_A_TIME)):
        said: dict[int, list[Judgment]] = {comparison.pk: [] for comparison in some}
        for judgment in judgments.filter(comparison__in=said).order_by("pk"):
            said[judgment.comparison_id].append(judgment)
        for comparison in some:
            enough = len(said[comparison.pk]) >= max(filters.min_judgments, settings.min_judgments)
            if enough:
                votes = [_judgment(one, comparison, reasons) for one in said[comparison.pk]]
                yield _row(comparison, votes)


def _row(comparison: Comparison, judgments: list[dict[str, Any]]) -> dict[str, Any]:
    prompt, first, second = comparison.prompt, comparison.first, comparison.second
    content, completions = in_one_type(prompt.content, [first.content, second.content])
    return {
        "prompt": content,
        "completion_a": completions[0],
        "completion_b": completions[1],
        "policy_a": first.policy.name,
        "policy_b": second.policy.name,
        "id": comparison.external_id,
        "metadata": comparison.metadata,
        "prompt_external_id": prompt.external_id,
        "prompt_metadata": prompt.metadata,
        "tools": prompt.tools,
        "gold": _side(comparison, comparison.gold_preferred_id),
        "held_out": prompt.held_out,
        "comparison": comparison.pk,
        "kind": comparison.kind,
        "batch": comparison.batch,
        "arm": comparison.arm or None,
        "propensity": comparison.propensity,
        "judgments": judgments,
    }


def _judgment(one: Judgment, comparison: Comparison, reasons: list[Aspect]) -> dict[str, Any]:
    return {
        "judgment": one.pk,
        "annotator": pseudonym(one.annotator_id),
        "verdict": _side(comparison, one.preferred_id) or one.verdict,
        "strength": one.strength,
        "left": _side(comparison, one.left_id) if one.sides_known else None,
        "imported": one.is_imported,
        "rationale": one.rationale,
        "reasons": titles_of(reasons, one.reasons),
        "criteria": one.criteria,
        "seconds": one.seconds,
        "late": one.late,
        "too_fast": one.too_fast,
        "at": one.first_at.isoformat(),
    }


def _side(comparison: Comparison, completion: int | None) -> str | None:
    """Return "a" for the first completion, "b" for the second, None for none."""
    return {comparison.first_id: "a", comparison.second_id: "b"}.get(completion or 0)
