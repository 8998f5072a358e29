"""Lineage both ways: from a policy back to the judgments that shaped it, and from a judgment on to the policies."""

from dataclasses import dataclass

from annotate.models import Comparison, Judgment, Policy
from training.models import Round


@dataclass(frozen=True)
class Ancestor:
    """One step back: a policy, and the round that made it (none for a base model)."""

    policy: Policy
    round: Round | None


def history(policy: Policy) -> list[Ancestor]:
    """The policy itself, then what it came from, back to the base model."""
    made_by = {
        round_.result_policy_id: round_
        for round_ in Round.objects.filter(
            project=policy.project, result_policy__isnull=False
        ).select_related("snapshot")
    }
    found = [Ancestor(policy, made_by.get(policy.pk))]
    while policy.parent is not None:
        policy = policy.parent
        found.append(Ancestor(policy, made_by.get(policy.pk)))
    return found


def descendants(policy: Policy) -> list[Policy]:
    """Every policy that came from this one, oldest first."""
    found: list[Policy] = []
    generation = [policy]
    while generation:
        generation = list(Policy.objects.filter(parent__in=generation).order_by("pk"))
        found += generation
    return sorted(found, key=lambda policy: policy.pk)


@dataclass(frozen=True)
class Shaped:
    """A policy that a comparison's judgments shaped: directly, through a round's snapshot, or by descent."""

    policy: Policy
    round: Round | None
    judgments: list[Judgment]  # those that the snapshot took; empty by descent


def shaped_by(comparison: Comparison) -> list[Shaped]:
    """Every policy that was shaped by judgments of this comparison."""
    found: dict[int, Shaped] = {}
    pairs = comparison.snapshot_pairs.select_related("snapshot").prefetch_related("judgments__annotator")
    for pair in pairs:
        for round_ in pair.snapshot.rounds.exclude(result_policy=None).select_related("result_policy"):
            if round_.result_policy is not None:
                found[round_.result_policy.pk] = Shaped(
                    round_.result_policy, round_, list(pair.judgments.all())
                )
    for shaped in list(found.values()):
        for policy in descendants(shaped.policy):
            found.setdefault(policy.pk, Shaped(policy, None, []))
    return [found[key] for key in sorted(found)]
