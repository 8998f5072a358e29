"""The chance of each annotator to be right, from votes whose truth is known in part or not at all.

An annotator prefers the truly better of two completions with a chance of their own, whatever the comparison: the
one-coin model of Dawid and Skene (1979). Other votes on the comparison, a known answer, and anything else that tells
which is better (a probe) are evidence. A vote without any other evidence says nothing of its voter.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from primitives.statistics import CONFIDENCE

# Before any evidence: right three times of four, as sure as 8 checks.
PRIOR_ACCURACY, PRIOR_WEIGHT = 0.75, 8
LEAST, MOST = 0.02, 0.99  # no annotator is always right, nor always wrong
_SWEEPS, _STEPS, _CLOSE = 100, 60, 1e-7
_GRID = tuple((place + 0.5) / 200 for place in range(200))

Annotator = Any  # whatever names one


class Item(NamedTuple):
    """Comparisons that were voted on alike.

    `votes` are of (annotator, whether the first is preferred). `chance` is that the first is better, by what is known
    beside the votes: one half, or 0 or 1 where the answer is known.
    """

    votes: tuple[tuple[Annotator, bool], ...]
    chance: float = 0.5
    times: float = 1.0


class Check(NamedTuple):
    """Votes of one annotator of which all else says, with this chance, that they are right."""

    chance: float
    times: float = 1.0


@dataclass(frozen=True)
class Reliability:
    """An annotator's chance to be right, with its interval, and how many known answers the evidence is worth."""

    value: float
    low: float
    high: float
    checks: float


UNKNOWN = Reliability(PRIOR_ACCURACY, LEAST, MOST, 0.0)


def estimate(items: Iterable[Item]) -> dict[Annotator, Reliability]:
    """Return each annotator's reliability: the likeliest values of all together, by expectation-maximization.

    Each moves half the way to the value that is likeliest given the others', until none moves. All move at once, so
    that two who only contradict each other come out alike. The prior is worth PRIOR_WEIGHT votes. The interval takes
    the others' values as known.
    """
    cast = _by_annotator(items)
    values: dict[Annotator, float] = dict.fromkeys(cast, PRIOR_ACCURACY)
    for _ in range(_SWEEPS):
        wanted = {
            annotator: likeliest(_checks(annotator, votes, values), values[annotator])
            for annotator, votes in cast.items()
        }
        moved = max((abs(wanted[one] - values[one]) for one in cast), default=0.0)
        values = {one: (values[one] + wanted[one]) / 2 for one in cast}
        if moved < _CLOSE:
            break
    return {
        annotator: summarize(_checks(annotator, votes, values), values[annotator])
        for annotator, votes in cast.items()
    }


def chance_of_first(
    item: Item, reliability: Mapping[Annotator, float], without: Annotator | None = None
) -> float:
    """Return the chance that the first is better, given the votes but those of `without`: naive Bayes."""
    odds = logit(item.chance)
    for annotator, prefers_first in item.votes:
        if annotator != without:
            evidence = logit(reliability.get(annotator, PRIOR_ACCURACY))
            odds += evidence if prefers_first else -evidence
    return sigmoid(odds)


def _by_annotator(items: Iterable[Item]) -> dict[Annotator, list[tuple[Item, bool]]]:
    """Return each annotator's votes with the items that they are on; both of one who voted twice."""
    found: dict[Annotator, list[tuple[Item, bool]]] = defaultdict(list)
    for item in items:
        for annotator, prefers_first in item.votes:
            found[annotator].append((item, prefers_first))
    return dict(found)


def _checks(
    annotator: Annotator, votes: Sequence[tuple[Item, bool]], values: Mapping[Annotator, float]
) -> list[Check]:
    """Return what all but an annotator's own votes say of these votes, those that say the same together."""
    found: dict[float, float] = defaultdict(float)
    for item, prefers_first in votes:
        chance = chance_of_first(item, values, without=annotator)
        found[round(chance if prefers_first else 1 - chance, 4)] += item.times
    return [Check(chance, times) for chance, times in found.items()]


# --- One annotator -----------------------------------------------------------------------------------------------


def likeliest(checks: Sequence[Check], start: float = PRIOR_ACCURACY) -> float:
    """Return the likeliest reliability given checks and the prior, from `start` on.

    The logarithm is concave: Newton's steps, halved where they leave the interval that holds the best.
    """
    low, high, value = LEAST, MOST, start
    for _ in range(_STEPS):
        slope, bend = _slopes(checks, value)
        low, high = (value, high) if slope > 0 else (low, value)
        wanted = value - slope / bend
        step = wanted if low <= wanted <= high else (low + high) / 2
        if abs(step - value) < _CLOSE / 10:
            return step
        value = step
    return value


def _slopes(checks: Sequence[Check], value: float) -> tuple[float, float]:
    """Return the first two derivatives of the log of prior times likelihood."""
    right, wrong = PRIOR_WEIGHT * PRIOR_ACCURACY, PRIOR_WEIGHT * (1 - PRIOR_ACCURACY)
    slope = right / value - wrong / (1 - value)
    bend = -right / value**2 - wrong / (1 - value) ** 2
    for chance, times in checks:
        part = (2 * chance - 1) / (value * chance + (1 - value) * (1 - chance))
        slope += times * part
        bend -= times * part * part
    return slope, bend


def log_likelihood(checks: Sequence[Check], value: float) -> float:
    """Return the log of the chance that this reliability gives to checks, each of which may be known in part."""
    return math.fsum(
        times * math.log(value * chance + (1 - value) * (1 - chance)) for chance, times in checks
    )


def summarize(checks: Sequence[Check], value: float) -> Reliability:
    """Return a reliability with its central interval under the prior, and what the checks are worth."""
    right, wrong = PRIOR_WEIGHT * PRIOR_ACCURACY, PRIOR_WEIGHT * (1 - PRIOR_ACCURACY)
    logs = [
        right * math.log(point) + wrong * math.log(1 - point) + log_likelihood(checks, point)
        for point in _GRID
    ]
    low, high = _central(logs)
    worth = math.fsum(times * (2 * chance - 1) ** 2 for chance, times in checks)
    return Reliability(value, min(low, value), max(high, value), worth)


def _central(logs: Sequence[float]) -> tuple[float, float]:
    """Return the points of the grid between which CONFIDENCE of a density lies, given its logarithm."""
    highest = max(logs)
    density = [math.exp(log - highest) for log in logs]
    total, tail = math.fsum(density), (1 - CONFIDENCE) / 2
    low = high = _GRID[0]
    below = 0.0
    for point, part in zip(_GRID, density, strict=True):
        if below / total <= tail:
            low = point
        if below / total < 1 - tail:
            high = point
        below += part
    return low, high


def lasting_interval(checks: Sequence[Check], level: float) -> tuple[float, float]:
    """Return what checks leave of reliability, valid at every moment at once; (0, 1) without any.

    A value is left out once its likelihood is `level` times that of a value drawn evenly from 0 to 1, or less (Robbins
    1970). The chance that the true value is ever left out is at most `level`, however often one looks (Ville).
    """
    if not checks:
        return 0.0, 1.0
    logs = [log_likelihood(checks, point) for point in _GRID]
    highest = max(logs)
    mean = highest + math.log(math.fsum(math.exp(log - highest) for log in logs) / len(logs))
    left = [point for point, log in zip(_GRID, logs, strict=True) if log > mean + math.log(level)]
    half = 0.5 / len(_GRID)
    return left[0] - half, left[-1] + half


def logit(chance: float) -> float:
    """Return the log odds of a chance. That of 0 or 1 is very large, not infinite."""
    bounded = min(max(chance, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def sigmoid(odds: float) -> float:
    """Return the chance of log odds."""
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0
