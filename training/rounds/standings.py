"""The standings of policies in the judgments: the counts behind `strengths.py`, from the database."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Avg, Case, Count, F, FloatField, Q, QuerySet, Value, When

from annotate.models import Comparison, Judgment, Policy, Project
from primitives.statistics import Estimate, confidence_sequence, mean_estimate, wilson
from training.models import Round
from training.rounds.strengths import Strength, rank


def _counted() -> QuerySet[Judgment]:
    """Return the judgments that compare: current ones, without skips."""
    return Judgment.objects.current().opinions()


def _share_for(preferred: Q) -> Case:
    """Return what a judgment gives to a policy: 1 if it preferred its completion, one half if neither, else 0."""
    neither = Q(verdict__in=[Judgment.Verdict.TIE, Judgment.Verdict.BOTH_BAD])
    return Case(
        When(neither, then=Value(0.5)),
        When(preferred, then=Value(1.0)),
        default=Value(0.0),
        output_field=FloatField(),
    )


@dataclass(frozen=True)
class Gate:
    """The standing of a gate: the share of comparisons that the new policy wins, with `judged` of `total` complete.

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
        """Return `better` or `worse` once the interval leaves one half, `even` if it never did, else `open`."""
        if self.win_rate is not None and self.win_rate.low > 0.5:
            return "better"
        if self.win_rate is not None and self.win_rate.high < 0.5:
            return "worse"
        return "even" if self.judged == self.total else "open"


def measure_gate(round_: Round) -> Gate:
    """Return the standing of a round's gate, with an interval that stays valid however often it is looked at."""
    return measure_gates([round_])[round_.pk]


def measure_gates(rounds: Iterable[Round]) -> dict[int, Gate]:
    """Map each round's id to the standing of its gate, in two queries however many rounds there are."""
    ids = [round_.pk for round_ in rounds]
    shares: dict[int, list[float]] = defaultdict(list)
    by_comparison = (
        _counted()
        .filter(comparison__gate_of_rounds__in=ids, comparison__judged__gte=F("comparison__needed"))
        .values("comparison__gate_of_rounds", "comparison")
        .annotate(share=Avg(_share_for(Q(preferred__policy=F("comparison__gate_of_rounds__result_policy")))))
        .values_list("comparison__gate_of_rounds", "share")
    )
    for round_id, share in by_comparison:
        shares[round_id].append(share)
    totals = Round.objects.filter(pk__in=ids).gate_totals()
    return {pk: _summarize(totals[pk], shares[pk]) for pk in ids}


def _summarize(total: int, shares: list[float]) -> Gate:
    return Gate(
        total=total,
        judged=len(shares),
        wins=sum(share > 0.5 for share in shares),
        draws=sum(share == 0.5 for share in shares),
        losses=sum(share < 0.5 for share in shares),
        win_rate=confidence_sequence(sum(shares), len(shares)),
    )


def count_verdicts(project: Project) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Count the judgments between two policies: (a, b), a < b -> a's wins, b's wins, ties."""
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
