"""Statistics of counts: shares with an interval, and the mean of numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
NORMAL_95 = 1.959963984540054  # the standard normal quantile of CONFIDENCE, two-sided


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval at CONFIDENCE. `count` is how many observations stand behind it."""

    value: float
    low: float
    high: float
    count: float


def wilson(successes: float, count: float) -> Estimate | None:
    """Return a proportion with Wilson's score interval (Wilson 1927). Ties are half a success. None without data.

    For a figure that is looked at once, such as held-out accuracy. For one that is watched while it grows, use
    `primitives.evidence.interval`.
    """
    if count <= 0:
        return None
    share = successes / count
    shrink = 1 + NORMAL_95**2 / count
    middle = (share + NORMAL_95**2 / (2 * count)) / shrink
    half = NORMAL_95 / shrink * math.sqrt(share * (1 - share) / count + NORMAL_95**2 / (4 * count**2))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), count)


def mean_estimate(values: Sequence[float]) -> Estimate | None:
    """Return the mean with its normal interval, which is a point for a single number. None without data."""
    count = len(values)
    if count == 0:
        return None
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, count - 1) / count)
    return Estimate(mean, mean - NORMAL_95 * spread, mean + NORMAL_95 * spread, count)


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with its 95 % interval by Wilson's score, which holds for small totals too."""

    count: int = 0
    total: int = 0

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        estimate = wilson(self.count, self.total)
        return (estimate.low, estimate.high) if estimate else (0.0, 1.0)


UNMEASURED = Share()


def sum_shares(shares: Iterable[Share]) -> Share:
    """Return the share of everything that `shares` count together."""
    listed = list(shares)
    return Share(sum(share.count for share in listed), sum(share.total for share in listed))


def percent(share: float | str | None) -> str:
    """Return a share for people: 0.583 as "58 %", and a dash for what was not measured (None, or "" in a template)."""
    return f"{100 * share:.0f} %" if isinstance(share, int | float) else "–"
