"""The strengths of policies, by Bradley and Terry from the comparisons between them, with intervals.

Plain Python over counts; the queries that produce the counts are in `standings.py`. A tie counts one half.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from primitives.statistics import CONFIDENCE, Estimate

PRIOR_TIES = 1.0  # one tie for each pair of policies that met, so that a clean sweep has a finite strength

# --- Bradley-Terry -----------------------------------------------------------------------------------------------

Tally = Mapping[tuple[int, int], tuple[float, float, float]]  # (a, b) -> a's wins, b's wins, ties


@dataclass(frozen=True)
class Strength:
    """A policy's place: the chance that it beats the anchor, with a bootstrap interval, and how often it met others."""

    policy: int
    log_strength: float
    beats_anchor: Estimate


def bradley_terry(tally: Tally, anchor: int) -> dict[int, float]:
    """Return log-strengths by policy, the anchor's being 0: P(a beats b) = sigmoid(a - b) (Bradley and Terry 1952).

    Maximum likelihood by Newton's method over the counts, a tie being half a win for each, with PRIOR_TIES ties
    added to each pair that met. Policies that no chain of comparisons connects to the anchor have no strength and
    are left out.
    """
    games: dict[tuple[int, int], tuple[float, float]] = {}
    for (a, b), (wins_a, wins_b, ties) in tally.items():
        if wins_a + wins_b + ties > 0:
            half = (ties + PRIOR_TIES) / 2
            games[a, b] = (wins_a + half, wins_b + half)
    others = sorted(_connected(games, anchor) - {anchor})
    place = {policy: index for index, policy in enumerate(others)}
    games = {pair: wins for pair, wins in games.items() if pair[0] == anchor or pair[0] in place}
    strengths = [0.0] * len(others)
    for _ in range(100):
        gradient, hessian = _likelihood(games, place, strengths)
        step = _solve(hessian, gradient)
        # The log-likelihood is concave but Newton may overshoot where a sweep makes it flat.
        longest = max((abs(value) for value in step), default=0.0)
        scale = min(1.0, 2.0 / longest) if longest else 1.0
        strengths = [value + scale * change for value, change in zip(strengths, step, strict=True)]
        if longest < 1e-10:
            break
    return {anchor: 0.0} | dict(zip(others, strengths, strict=True))


def _connected(games: Mapping[tuple[int, int], object], start: int) -> set[int]:
    neighbours = defaultdict(set)
    for a, b in games:
        neighbours[a].add(b)
        neighbours[b].add(a)
    found, frontier = {start}, [start]
    while frontier:
        new = neighbours[frontier.pop()] - found
        found |= new
        frontier += new
    return found


def _likelihood(
    games: Mapping[tuple[int, int], tuple[float, float]], place: Mapping[int, int], strengths: Sequence[float]
) -> tuple[list[float], list[list[float]]]:
    """Return the gradient of the log-likelihood and its negative Hessian, over every policy but the anchor."""
    size = len(strengths)
    gradient = [0.0] * size
    hessian = [[0.0] * size for _ in range(size)]
    for (a, b), (wins_a, wins_b) in games.items():
        i, j = place.get(a), place.get(b)  # None is the anchor, whose strength is fixed at 0
        difference = (strengths[i] if i is not None else 0.0) - (strengths[j] if j is not None else 0.0)
        chance = sigmoid(difference)
        count = wins_a + wins_b
        surplus, curvature = wins_a - count * chance, count * chance * (1 - chance)
        for index, sign in ((i, 1), (j, -1)):
            if index is not None:
                gradient[index] += sign * surplus
                hessian[index][index] += curvature
        if i is not None and j is not None:
            hessian[i][j] -= curvature
            hessian[j][i] -= curvature
    return gradient, hessian


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a positive definite system by Cholesky decomposition. It has as many rows as policies."""
    size = len(right)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - math.fsum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(rest) if i == j else rest / lower[j][j]
    solution = list(right)
    for i in range(size):
        solution[i] = (solution[i] - math.fsum(lower[i][k] * solution[k] for k in range(i))) / lower[i][i]
    for i in reversed(range(size)):
        above = math.fsum(lower[k][i] * solution[k] for k in range(i + 1, size))
        solution[i] = (solution[i] - above) / lower[i][i]
    return solution


def sigmoid(value: float) -> float:
    """Return 1 / (1 + exp(-value)), without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def rank(tally: Tally, anchor: int, *, resamples: int = 200, seed: int = 0) -> list[Strength]:
    """Return the policies by strength, strongest first, with percentile bootstrap intervals over the counts.

    A resample draws each (a, b, outcome) count from a Poisson distribution with that mean: the Poisson bootstrap of
    Hanley and MacGibbon (2006). So the work grows with the number of pairs of policies, not of judgments.
    """
    strengths = bradley_terry(tally, anchor)
    draws: dict[int, list[float]] = {policy: [] for policy in strengths}
    generator = random.Random(seed)
    for _ in range(resamples):
        sample = {
            pair: (_poisson(generator, wins_a), _poisson(generator, wins_b), _poisson(generator, ties))
            for pair, (wins_a, wins_b, ties) in tally.items()
        }
        for policy, value in bradley_terry(sample, anchor).items():
            if policy in draws:
                draws[policy].append(value)
    met: dict[int, float] = defaultdict(float)
    for pair, counts in tally.items():
        for policy in pair:
            met[policy] += sum(counts)
    found = []
    for policy, value in strengths.items():
        low, high = _percentiles(sorted(draws[policy]) or [value])
        estimate = Estimate(sigmoid(value), sigmoid(low), sigmoid(high), met[policy])
        found.append(Strength(policy, value, estimate))
    return sorted(found, key=lambda strength: -strength.log_strength)


def _poisson(generator: random.Random, mean: float) -> float:
    """Draw from a Poisson distribution: by Knuth's product of uniforms, or the normal limit for a large mean."""
    if mean > 60:
        return max(0.0, round(generator.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), generator.random(), 0
    while product > limit:
        product *= generator.random()
        count += 1
    return count


def _percentiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the central interval at CONFIDENCE."""
    tail = (1 - CONFIDENCE) / 2
    last = len(ordered) - 1
    return ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)]
