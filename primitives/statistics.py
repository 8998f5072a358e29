"""Statistics of counts: shares with an interval, an interval that holds while one looks, and the mean of numbers."""

import math
from collections.abc import Callable, Iterable, Sequence
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
    `confidence_sequence`.
    """
    if count <= 0:
        return None
    share = successes / count
    shrink = 1 + NORMAL_95**2 / count
    middle = (share + NORMAL_95**2 / (2 * count)) / shrink
    half = NORMAL_95 / shrink * math.sqrt(share * (1 - share) / count + NORMAL_95**2 / (4 * count**2))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), count)


def confidence_sequence(successes: float, count: float, confidence: float = CONFIDENCE) -> Estimate | None:
    """Return the mean of observations in [0, 1] with an interval that holds at every moment at once.

    A reader may look after each observation and stop at any time: the chance that the true mean ever lies outside
    is at most 1 - confidence. For each candidate mean m the mixture likelihood ratio

        M(m) = B(1 + s, 1 + n - s) / (m^s (1 - m)^(n - s)),    s = sum of observations, n = their number,

    is a nonnegative supermartingale if m is the mean. That is the beta-binomial mixture of Robbins (1970; Howard,
    Ramdas, McAuliffe and Sekhon 2021, 1810.08240, section 3.2) with a uniform prior. It also covers ties counted
    one half: (p/m)^x ((1-p)/(1-m))^(1-x) is convex in x, so its mean is largest for outcomes in {0, 1}. By
    Ville's inequality the interval is the set of m with M(m) < 1 / (1 - confidence).

    `successes` is the sum of the observations. None without data.
    """
    if count <= 0:
        return None
    losses = count - successes
    share = successes / count
    log_mixture = (
        math.lgamma(1 + successes) + math.lgamma(1 + losses) - math.lgamma(2 + count)
    )  # log B(1 + s, 1 + n - s)
    threshold = -math.log1p(-confidence)

    def rejected(mean: float) -> bool:
        log_likelihood = (successes * math.log(mean) if successes else 0.0) + (
            losses * math.log1p(-mean) if losses else 0.0
        )
        return log_mixture - log_likelihood >= threshold

    low = 0.0 if successes == 0 else _boundary(rejected, 0.0, share)
    high = 1.0 if losses == 0 else _boundary(rejected, 1.0, share)
    return Estimate(share, low, high, count)


def _boundary(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return where `rejected` changes between a rejected and an accepted point, to 1e-12, by bisection."""
    for _ in range(60):
        middle = (outside + inside) / 2
        if middle in (outside, inside):
            break
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return (outside + inside) / 2


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
    def share(self) -> float | None:
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
