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
_SWEEPS, _STEPS, _CLOSE = 100, 60, 1e-4
_DEVIATIONS = 10  # a density is next to nothing further from its highest point
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

    Each moves half the way to the value that is likeliest given the others', until none is further than _CLOSE from it.
    A label moves by about as much as the values behind it. All move at once, so that two who only contradict each other
    come out alike. The prior is worth PRIOR_WEIGHT votes. The interval takes the others' values as known.
    """
    merged = merge(items)
    values: dict[Annotator, float] = {
        annotator: PRIOR_ACCURACY for item in merged for annotator, _prefers_first in item.votes
    }
    checks, wanted = _checks(merged, values), values
    for _ in range(_SWEEPS):
        wanted = {one: likeliest(some, values[one]) for one, some in checks.items()}
        if all(abs(wanted[one] - values[one]) < _CLOSE for one in values):
            break
        values = {one: (values[one] + wanted[one]) / 2 for one in values}
        checks = _checks(merged, values)
    return {one: summarize(some, wanted[one]) for one, some in checks.items()}


def merge(items: Iterable[Item]) -> list[Item]:
    """Return the items with those that say the same as one, which they also do with first and second swapped.

    Items of two votes, however many, become two for each pair of annotators: they agreed, or they did not.
    """
    found: dict[tuple[tuple[tuple[Annotator, bool], ...], float], float] = defaultdict(float)
    for votes, chance, times in items:
        if votes and not votes[0][1]:
            swapped = tuple((annotator, not prefers_first) for annotator, prefers_first in votes)
            found[swapped, 1 - chance] += times
        else:
            found[votes, chance] += times
    return [Item(votes, chance, times) for (votes, chance), times in found.items()]


def chance_of_first(item: Item, reliability: Mapping[Annotator, float]) -> float:
    """Return the chance that the first is better, given the votes: naive Bayes."""
    odds = logit(item.chance)
    for annotator, prefers_first in item.votes:
        evidence = logit(reliability.get(annotator, PRIOR_ACCURACY))
        odds += evidence if prefers_first else -evidence
    return sigmoid(odds)


def _checks(items: Iterable[Item], values: Mapping[Annotator, float]) -> dict[Annotator, list[Check]]:
    """Return what all but their own votes say of each annotator's votes, those that say the same together."""
    evidence = {annotator: logit(value) for annotator, value in values.items()}
    found: dict[Annotator, dict[float, float]] = {annotator: defaultdict(float) for annotator in values}
    for votes, chance, times in items:
        own: dict[Annotator, float] = defaultdict(float)  # of one who voted twice, both votes
        for annotator, prefers_first in votes:
            own[annotator] += evidence[annotator] if prefers_first else -evidence[annotator]
        odds = logit(chance) + sum(own.values())
        for annotator, prefers_first in votes:
            others = odds - own[annotator]
            found[annotator][round(sigmoid(others if prefers_first else -others), 4)] += times
    return {
        annotator: [Check(chance, times) for chance, times in some.items()]
        for annotator, some in found.items()
    }


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
    _slope, bend = _slopes(checks, value)
    reach = _DEVIATIONS / math.sqrt(-bend)
    points = [point for point in _GRID if abs(point - value) <= reach]
    logs = [
        right * math.log(point) + wrong * math.log(1 - point) + log_likelihood(checks, point)
        for point in points
    ]
    low, high = _central(points, logs) if points else (value, value)
    worth = math.fsum(times * (2 * chance - 1) ** 2 for chance, times in checks)
    return Reliability(value, min(low, value), max(high, value), worth)


def _central(points: Sequence[float], logs: Sequence[float]) -> tuple[float, float]:
    """Return the points between which CONFIDENCE of a density lies, given its logarithm."""
    highest = max(logs)
    density = [math.exp(log - highest) for log in logs]
    total, tail = math.fsum(density), (1 - CONFIDENCE) / 2
    low = high = points[0]
    below = 0.0
    for point, part in zip(points, density, strict=True):
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
