"""How policies stand with the people who judged them: the counts behind `strengths.py`, from the database."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.db.models import Avg, Case, Count, F, FloatField, Q, QuerySet, Value, When

from annotate.models import Comparison, Judgment, Policy, Project
from primitives.statistics import Estimate, confidence_sequence, mean_estimate, wilson
from training.models import Round
from training.rounds.strengths import Strength, rank


def _counted() -> QuerySet[Judgment]:
    """The judgments that compare: current ones, without skips."""
    return Judgment.objects.current().opinions()


def _share_for(preferred: Q) -> Case:
    """What a judgment gives to a policy: 1 if it preferred its completion, one half if neither, else 0."""
    neither = Q(verdict__in=[Judgment.Verdict.TIE, Judgment.Verdict.BOTH_BAD])
    return Case(
        When(neither, then=Value(0.5)),
        When(preferred, then=Value(1.0)),
        default=Value(0.0),
        output_field=FloatField(),
    )


@dataclass(frozen=True)
class Gate:
    """Where the gate stands: the share of comparisons that the new policy wins, `judged` of `total` being complete.

    The unit is the comparison: where several annotators judge one, their mean counts once, so that annotators who
    agree on a lucky sample do not make it look like many.
    """

    total: int
    judged: int
    wins: int
    draws: int
    losses: int
    win_rate: Estimate | None

    @property
    def verdict(self) -> str:
        """`better` or `worse` once the interval leaves one half, `even` if it never did, else `open`."""
        if self.win_rate is not None and self.win_rate.low > 0.5:
            return "better"
        if self.win_rate is not None and self.win_rate.high < 0.5:
            return "worse"
        return "even" if self.judged == self.total else "open"


def gate(round_: Round) -> Gate:
    """The gate's standing, with an interval that stays valid however often it is looked at."""
    shares = list(
        _counted()
        .filter(comparison__gate_of_rounds=round_, comparison__judged__gte=F("comparison__needed"))
        .values("comparison")
        .annotate(share=Avg(_share_for(Q(preferred__policy=round_.result_policy_id))))
        .values_list("share", flat=True)
    )
    return Gate(
        total=round_.gate_total,
        judged=len(shares),
        wins=sum(share > 0.5 for share in shares),
        draws=sum(share == 0.5 for share in shares),
        losses=sum(share < 0.5 for share in shares),
        win_rate=confidence_sequence(sum(shares), len(shares)),
    )


def tally(project: Project) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Every judgment between two policies: (a, b), a < b -> a's wins, b's wins, ties."""
    between = (
        _counted()
        .filter(project=project)
        .exclude(comparison__first__policy=F("comparison__second__policy"))
        .exclude(comparison__kind__in=[Comparison.Kind.GOLD, Comparison.Kind.REPEAT])
        .annotate(share=_share_for(Q(preferred=F("comparison__first"))))
        .values_list("comparison__first__policy", "comparison__second__policy", "share")
        .annotate(count=Count("pk"))
    )
    counts: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for first, second, share, count in between:
        pair = (min(first, second), max(first, second))
        tied, first_won = share == 0.5, share == 1
        counts[pair][2 if tied else 0 if first_won == (first == pair[0]) else 1] += count
    return {pair: (a, b, ties) for pair, (a, b, ties) in counts.items()}


def ranking(project: Project) -> list[tuple[Policy, Strength]]:
    """The project's policies by Bradley-Terry strength against its oldest policy, strongest first."""
    policies = {policy.pk: policy for policy in project.policies.all()}
    counts = tally(project)
    if not counts:
        return []
    return [(policies[strength.policy], strength) for strength in rank(counts, anchor=min(policies))]


@dataclass(frozen=True)
class Lengths:
    """Mean tokens per completion on the gate's prompts, of the policy before and of the new one."""

    before: Estimate | None
    after: Estimate | None


def sampled_lengths(round_: Round) -> Lengths:
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


def held_out_accuracy(round_: Round) -> HeldOut | None:
    """How often the implicit reward prefers what people preferred, on prompts that training never saw."""
    figures: dict[str, Any] = round_.summary.get("train", {}).get("heldout", {})
    before, after = figures.get("before"), figures.get("after")
    if not before or not after:
        return None
    estimate = wilson(after["accuracy"] * after["pairs"], after["pairs"])
    return HeldOut(before["accuracy"], estimate) if estimate else None
