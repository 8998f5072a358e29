"""Statistics of counts: shares with an interval, and the mean of numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """`count` of `total`, with its 95 % interval by Wilson's score, which holds for small totals too.

    `worth` is the number of independent observations that they are worth, where it is not `total`.
    """

    count: int = 0
    total: int = 0
    worth: float | None = field(default=None, compare=False)

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        worth = self.total if self.worth is None else self.worth
        estimate = wilson((self.value or 0.0) * worth, worth)
        return (estimate.low, estimate.high) if estimate else (0.0, 1.0)


@dataclass(frozen=True)
class UnitSums:
    """Sums over independent units of which each has some things, `total`, and some of these counted, `count`."""

    units: int
    count: int
    total: int
    count_squared: int
    count_by_total: int
    total_squared: int

    def as_share(self) -> Share:
        """Return the share of all things that count, worth as much as its spread over the units tells.

        Its variance is that of a ratio of sums (Cochran 1977, equation 6.13), and counts for less where units are few
        (Korn and Graubard 1998). It is worth at least what units of one answer each are (Kish 1965), and at most all
        things.
        """
        if not self.total:
            return UNMEASURED
        share = self.count / self.total
        least = self.total**2 / self.total_squared
        if self.units < 2:
            return Share(self.count, self.total, least)
        squares = self.count_squared - 2 * share * self.count_by_total + share**2 * self.total_squared
        spread = max(0.0, squares) * self.units / (self.units - 1)
        worth = share * (1 - share) * self.total**2 / spread if spread else least
        worth = narrow_by_units(worth, self.units)
        return Share(self.count, self.total, min(max(worth, least), self.total))


def narrow_by_units(worth: float, units: int) -> float:
    """Return what observations are worth where their spread was itself measured on so few units, two or more."""
    return worth * (NORMAL_95 / _student_95(units - 1)) ** 2


def _student_95(freedom: int) -> float:
    """Return Student's quantile of CONFIDENCE, by the first terms of its expansion about the normal one."""
    z = NORMAL_95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def median_of_counts(counts: Mapping[float, int]) -> float | None:
    """Return the median of numbers of which each occurs so many times. None without any."""
    half, passed, lower = sum(counts.values()) / 2, 0, None
    for number in sorted(number for number, count in counts.items() if count):
        passed += counts[number]
        if lower is not None:
            return (lower + number) / 2
        if passed > half:
            return number
        if passed == half:
            lower = number
    return None


UNMEASURED = Share()


def sum_shares(shares: Iterable[Share]) -> Share:
    """Return the share of everything that `shares` count together."""
    listed = list(shares)
    return Share(sum(share.count for share in listed), sum(share.total for share in listed))


def percent(share: float | str | None) -> str:
    """Return a share for people: 0.583 as "58 %", and a dash for what was not measured (None, or "" in a template)."""
    return f"{100 * share:.0f} %" if isinstance(share, int | float) else "–"
