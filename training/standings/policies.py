"""The standings of policies in the judgments: the counts behind `strengths.py`, from the database."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Q

from annotate.models import Comparison, Policy, Project
from primitives.statistics import Estimate, mean_estimate, wilson
from training.models import Round
from training.standings.gates import opinions, share_for
from training.standings.strengths import Strength, rank


def count_verdicts(project: Project) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Count the judgments between two policies: (a, b), a < b -> a's wins, b's wins, ties."""
    between = (
        opinions()
        .filter(project=project)
        .exclude(comparison__first__policy=F("comparison__second__policy"))
        .exclude(comparison__kind__in=[Comparison.Kind.GOLD, Comparison.Kind.REPEAT])
        .annotate(share=share_for(Q(preferred=F("comparison__first"))))
        .values_list("comparison__first__policy", "comparison__second__policy", "share")
        .annotate(count=Count("pk"))
    )
    counts: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for first, second, share, count in between:
        pair = (min(first, second), max(first, second))
        tied, first_won = share == 0.5, share == 1
        counts[pair][2 if tied else 0 if first_won == (first == pair[0]) else 1] += count
    return {pair: (a, b, ties) for pair, (a, b, ties) in counts.items()}


def rank_policies(project: Project) -> list[tuple[Policy, Strength | None]]:
    """Return the project's policies, strongest first, and behind them those that no judgment compares.

    Strengths are Bradley-Terry against the oldest policy.
    """
    policies = {
        policy.pk: policy
        for policy in project.policies.select_related("parent", "round__project").order_by("pk")
    }
    counts = count_verdicts(project)
    strengths = rank(counts, anchor=min(policies)) if counts else []
    ranked = [(policies.pop(strength.policy), strength) for strength in strengths]
    return [*ranked, *((policy, None) for policy in policies.values())]


@dataclass(frozen=True)
class Lengths:
    """Mean tokens per completion on the gate's prompts, of the policy before and of the new one."""

    before: Estimate | None
    after: Estimate | None


def measure_lengths(round_: Round) -> Lengths:
    """Return the mean lengths of the completions that the round's gate compares."""
    before: list[float] = []
    after: list[float] = []
    for side in ("first", "second"):
        for policy, token_ids in round_.gate.values_list(f"{side}__policy", f"{side}__token_ids"):
            if token_ids is not None:
                (after if policy == round_.result_policy_id else before).append(float(len(token_ids)))
    return Lengths(mean_estimate(before), mean_estimate(after))


@dataclass(frozen=True)
class HeldOut:
    """Accuracy on held-out pairs. `before` is one half by definition: a policy has no margin over itself."""

    before: float
    after: Estimate


def measure_held_out(round_: Round) -> HeldOut | None:
    """Return how often the implicit reward prefers what annotators preferred, on prompts that training never saw."""
    figures: dict[str, Any] = round_.summary.get("train", {}).get("heldout", {})
    before, after = figures.get("before"), figures.get("after")
    if not before or not after:
        return None
    estimate = wilson(after["accuracy"] * after["pairs"], after["pairs"])
    return HeldOut(before["accuracy"], estimate) if estimate else None
