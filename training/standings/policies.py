"""The standings of policies in the judgments: the counts behind `strengths.py`, from the database."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Case, F, Q, QuerySet, When
from django.db.models.functions import Length

from annotate.models import Comparison, Judgment, Policy, Project
from annotate.reports.recalled import recall
from primitives.statistics import Estimate, mean_estimate, wilson
from training.models import Round
from training.standings.gates import opinions, share_for
from training.standings.strengths import Match, Strength, rank

MOST_MATCHES = 50_000  # the newest judgments between policies: more would keep a page waiting


def between_policies(project_id: int) -> QuerySet[Judgment]:
    """Return the judgments between two policies, without gold, repeats and what a probe chose."""
    return (
        opinions()
        .filter(project=project_id)
        .exclude(comparison__first__policy=F("comparison__second__policy"))
        .exclude(comparison__kind__in=[Comparison.Kind.GOLD, Comparison.Kind.REPEAT])
        .exclude(comparison__arm=Comparison.Arm.PROBE)
    )


def find_matches(project: Project) -> list[Match]:
    """Return the newest judgments between two policies. Lengths are in characters."""
    rows = (
        between_policies(project.pk)
        .order_by("-pk")
        .values_list(
            "comparison",
            "annotator",
            "comparison__first__policy",
            "comparison__second__policy",
            share_for(Q(preferred=F("comparison__first"))),
            Case(When(sides_known=False, then=0), When(left=F("comparison__first"), then=1), default=-1),
            Length("comparison__first__text"),
            Length("comparison__second__text"),
        )[:MOST_MATCHES]
    )
    return [
        Match(comparison, annotator, first, second, share, side, math.log((1 + length) / (1 + other)))
        for comparison, annotator, first, second, share, side, length, other in rows
    ]


def rank_policies(project: Project) -> list[tuple[Policy, Strength | None]]:
    """Return the project's policies, strongest first, and behind them those that no judgment compares.

    Strengths are Bradley-Terry against `find_anchor` of these places.
    """
    policies = {
        policy.pk: policy
        for policy in project.policies.select_related("parent", "round__project").order_by("pk")
    }
    strengths = recall(project, "strengths of policies", lambda: measure_strengths(project))
    known = [strength for strength in strengths if strength.policy in policies]
    ranked = [(policies.pop(strength.policy), strength) for strength in known]
    return [*ranked, *((policy, None) for policy in policies.values())]


def measure_strengths(project: Project) -> list[Strength]:
    """Return the strengths of the policies that met, the strongest first."""
    matches = find_matches(project)
    # The oldest that met another: one that never wrote would leave all others without a strength.
    oldest = min((min(match.first, match.second) for match in matches), default=None)
    return rank(matches, oldest) if oldest is not None else []


def find_anchor(places: Iterable[tuple[Policy, Strength | None]]) -> Policy | None:
    """Return the oldest policy with a strength, or the oldest of all: the strengths are against it."""
    found = min(places, key=lambda place: (place[1] is None, place[0].pk), default=None)
    return found[0] if found else None


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
    before, accuracy = (
        round_.reported_number(f"train.heldout.{when}.accuracy") for when in ("before", "after")
    )
    pairs = round_.reported_count("train.heldout.after.pairs")
    if before is None or accuracy is None or accuracy > 1 or not pairs:
        return None
    estimate = wilson(accuracy * pairs, pairs)
    return HeldOut(before, estimate) if estimate else None
