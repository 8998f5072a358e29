"""Evidence that the mean of observations lies above or below a value, valid at every moment at once.

A claim that the mean is at most m offers a fair game: stake a share b of what you own on the next observation.
Wealth that grows to 1 / alpha refutes the claim, and does so wrongly with a chance of at most alpha, however often
one looks and whenever one stops (Ville's inequality; Waudby-Smith and Ramdas 2023, 2010.09686, theorem 3).
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from primitives.statistics import Estimate

# Equal parts of the first unit of wealth are staked at these shares. Where observations are wins, losses and ties (0),
# each grows fastest for 57 to 90 % of wins among what is no tie, and a tie changes nothing.
BETS = (0.15, 0.3, 0.45, 0.6, 0.8)
_LIKELY, _ENOUGH = 1.2816, 0.05  # a one-sided 90 % bound; a chance that is worth waiting for
_TRIALS = 400
_FEW = 10  # observations that show no hopelessness
MOST_RATIO = 8.0  # of two means, beyond which an interval has no end


def log_wealth(observations: Iterable[float], mean: float = 0.0) -> Iterator[float]:
    """Yield the log of the wealth after each observation, against the claim that their mean is at most `mean`.

    Observations lie in [-1, 1], and `mean` in (-1, 1). Each must be independent of those before, or at least have a
    mean of at most `mean` given them.
    """
    logs = [0.0] * len(BETS)
    for observation in observations:
        gain = (observation - mean) / (1 + mean)
        logs = [log + math.log1p(bet * gain) for log, bet in zip(logs, BETS, strict=True)]
        highest = max(logs)
        yield highest + math.log(math.fsum(math.exp(log - highest) for log in logs) / len(BETS))


def refutes(observations: Iterable[float], alpha: float, mean: float = 0.0) -> bool:
    """Return whether the observations ever refuted, at level `alpha`, that their mean is at most `mean`."""
    threshold = -math.log(alpha)
    return any(wealth >= threshold for wealth in log_wealth(observations, mean))


def interval(observations: Sequence[float], alpha_below: float, alpha_above: float) -> Estimate | None:
    """Return the mean of observations in [-1, 1], with what they did not refute. None without data.

    The chance that the mean ever lies below the interval is at most `alpha_below`, above it `alpha_above`. The
    interval lies above 0 exactly when `refutes(observations, alpha_below)`.
    """
    if not observations:
        return None
    mirrored = [-observation for observation in observations]
    value = math.fsum(observations) / len(observations)
    low = _least_mean(observations, alpha_below)
    high = -_least_mean(mirrored, alpha_above)
    return Estimate(value, min(low, value), max(high, value), len(observations))


def _least_mean(observations: Sequence[float], alpha: float) -> float:
    """Return the largest mean that the observations refute, to 1e-4, by bisection: -1 if none."""
    low, high = -1.0, 1.0
    if refutes(observations, alpha):  # so that the sign is exact
        low = 0.0
    else:
        high = 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if refutes(observations, alpha, middle):
            low = middle
        else:
            high = middle
    return low if low > 0 or high < 0 else min(low, 0.0)


def ratio_interval(
    pairs: Sequence[tuple[float, float]], alpha_below: float, alpha_above: float
) -> Estimate | None:
    """Return the ratio of two means, from pairs of observations in [0, 1], with the ratios that they did not refute.

    That it is at most r claims that `one - r * other` has a mean of at most 0, which a bet can refute. So the chance
    that the ratio ever lies below the interval is at most `alpha_below`, above it `alpha_above`. The upper end is
    infinite until the pairs refute MOST_RATIO. None where the second of all pairs is 0.
    """
    below = math.fsum(other for _one, other in pairs)
    if not below:
        return None
    value = math.fsum(one for one, _other in pairs) / below

    def lies_above(ratio: float) -> bool:
        return refutes([(one - ratio * other) / max(1.0, ratio) for one, other in pairs], alpha_below)

    def lies_below(ratio: float) -> bool:
        return refutes([(ratio * other - one) / max(1.0, ratio) for one, other in pairs], alpha_above)

    low = _last(lies_above, 0.0, MOST_RATIO)
    high = -_last(lambda ratio: lies_below(-ratio), -MOST_RATIO, 0.0) if lies_below(MOST_RATIO) else math.inf
    return Estimate(value, min(low, value), max(high, value), len(pairs))


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the last value, to 1e-3, up to which `holds` says so, by bisection; the lowest if it never does."""
    while high - low > 1e-3:
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


# --- What is still to come ---------------------------------------------------------------------------------------


def more_needed(observations: Sequence[float], alpha: float) -> int | None:
    """Return about how many more observations like these would refute a mean of 0. None if no number would."""
    if not observations:
        return None
    wealth = max(math.fsum(math.log1p(bet * one) for one in observations) for bet in BETS)
    growth = wealth / len(observations)
    if growth <= 0:
        return None
    return max(1, math.ceil((math.log(len(BETS) / alpha) - wealth) / growth))


def is_hopeless(observations: Sequence[float], left: int, alpha: float) -> bool:
    """Return whether `left` more would hardly refute a mean of 0: a chance below 5 %, judged kindly.

    Kindly is with the share of wins at the upper end of its one-sided 90 % interval, Wilson's, and never of few.
    """
    if len(observations) < _FEW:
        return False
    weight = math.fsum(abs(one) for one in observations)
    wins = (weight + math.fsum(observations)) / 2
    share = (wins + _LIKELY**2 / 2) / (weight + _LIKELY**2) + (
        _LIKELY / (weight + _LIKELY**2) * math.sqrt(wins * (weight - wins) / max(weight, 1) + _LIKELY**2 / 4)
    )
    decided = left * weight / len(observations)
    threshold = math.log(len(BETS) / alpha)
    for bet in BETS:
        won, lost = math.log1p(bet), math.log1p(-bet)
        wealth = math.fsum(math.log1p(bet * one) for one in observations)
        expected = wealth + decided * (share * won + (1 - share) * lost)
        spread = (won - lost) * math.sqrt(decided * share * (1 - share))
        if expected >= threshold or (spread and _normal_tail((threshold - expected) / spread) >= _ENOUGH):
            return False
    return True


def _normal_tail(value: float) -> float:
    return math.erfc(value / math.sqrt(2)) / 2


@dataclass(frozen=True)
class Design:
    """A comparison of two in advance: `units` independent observations, each the mean of `each` draws."""

    units: int
    each: int
    ties: float
    alpha: float


@lru_cache(maxsize=256)
def chance_to_refute(design: Design, share: float) -> float:
    """Return the chance that a design refutes a mean of 0 if `share` of the draws are wins, ties aside."""
    return _chance_exact(design, share) if design.each == 1 else _chance_simulated(design, share)


def _chance_exact(design: Design, share: float) -> float:
    """Sum over all orders of wins and losses: ties change nothing, so only their number counts."""
    threshold = len(BETS) / design.alpha
    won = [[(1 + bet) ** count for bet in BETS] for count in range(design.units + 1)]
    lost = [[(1 - bet) ** count for bet in BETS] for count in range(design.units + 1)]
    undecided, decided, total = [1.0], 0.0, 0.0  # chances: by wins so far; after this many draws; in the end
    for count in range(1, design.units + 1):
        reached = [0.0] * (count + 1)
        for wins, here in enumerate(undecided):
            reached[wins] += here * (1 - share)
            reached[wins + 1] += here * share
        for wins, here in enumerate(reached):
            if here and sum(a * b for a, b in zip(won[wins], lost[count - wins], strict=True)) >= threshold:
                decided, reached[wins] = decided + here, 0.0
        undecided = reached
        total += decided * _binomial(design.units, count, 1 - design.ties)
    return total


def _binomial(trials: int, successes: int, chance: float) -> float:
    if chance >= 1:
        return float(successes == trials)
    log = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(log + successes * math.log(chance) + (trials - successes) * math.log1p(-chance))


def _chance_simulated(design: Design, share: float) -> float:
    generator = random.Random(0)
    decided = 0
    for _ in range(_TRIALS):
        units = (_unit(generator, share, design) for _ in range(design.units))
        decided += refutes(units, design.alpha)
    return decided / _TRIALS


def _unit(generator: random.Random, share: float, design: Design) -> float:
    """Draw an observation: the mean of wins (1), losses (-1) and ties (0)."""
    drawn = 0
    for _ in range(design.each):
        if generator.random() >= design.ties:
            drawn += 1 if generator.random() < share else -1
    return drawn / design.each
