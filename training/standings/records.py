"""The record of a policy against each other one: wins, ties and losses in the blind judgments."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from annotate.models import Policy
from annotate.reports.recalled import recall
from primitives import evidence
from primitives.statistics import Estimate
from training.standings.gates import share_for
from training.standings.levels import UNPLANNED_LEVEL, WORSE_LEVEL
from training.standings.policies import between_policies


@dataclass(frozen=True)
class Record:
    """The judgments between a policy and another one. The unit of the win rate is the prompt, as a gate's is."""

    other: Policy
    wins: int
    ties: int
    losses: int
    win_rate: Estimate | None

    @property
    def total(self) -> int:
        return self.wins + self.ties + self.losses


def records_of(policy: Policy) -> list[Record]:
    """Return what the judgments say of a policy and each other one, the most judged first."""
    tallies = recall(policy.project, f"records of policy {policy.pk}", lambda: _tally(policy))
    others = policy.project.policies.in_bulk(tallies)
    found = [Record(others[other], *tally) for other, tally in tallies.items() if other in others]
    return sorted(found, key=lambda record: -record.total)


def _tally(policy: Policy) -> dict[int, tuple[int, int, int, Estimate | None]]:
    """Return wins, ties, losses and the win rate by each other policy."""
    between = (
        between_policies(policy.project_id)
        .filter(Q(comparison__first__policy=policy) | Q(comparison__second__policy=policy))
        .order_by("pk")
        .values_list(
            "comparison__first__policy",
            "comparison__second__policy",
            "comparison__prompt",
            share_for(Q(preferred__policy=policy)),
        )
    )
    by_other: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for first, second, prompt, share in between:
        by_other[second if first == policy.pk else first].append((prompt, share))
    return {other: _summarize(shares) for other, shares in by_other.items()}


def _summarize(shares: list[tuple[int, float]]) -> tuple[int, int, int, Estimate | None]:
    counts = Counter(share for _prompt, share in shares)
    return counts[1], counts[0.5], counts[0], _win_rate(shares)


def _win_rate(shares: Iterable[tuple[int, float]]) -> Estimate | None:
    """Return the share of wins over prompts, each by the mean of its judgments. A tie is half of one."""
    by_prompt: dict[int, list[float]] = defaultdict(list)
    for prompt, share in shares:
        by_prompt[prompt].append(2 * share - 1)
    observations = [math.fsum(of_prompt) / len(of_prompt) for of_prompt in by_prompt.values()]
    found = evidence.interval(observations, UNPLANNED_LEVEL, WORSE_LEVEL)
    if found is None:
        return None
    return Estimate((1 + found.value) / 2, (1 + found.low) / 2, (1 + found.high) / 2, found.count)
