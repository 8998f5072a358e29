"""The strengths of policies, by Bradley and Terry from the judgments between them, with intervals.

Plain Python over judgments; the query that finds them is in `policies.py`. A tie counts one half.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from primitives.statistics import NORMAL_95, Estimate

PRIOR_TIES = 1.0  # one tie for each pair of policies that met, so that a clean sweep has a finite strength
LONGEST_RATIO = 2.0  # of two lengths, as a natural logarithm: beyond seven times as long, more says no more
BINS = 8  # of that logarithm, for each unit
FEWEST_ANNOTATORS = 5  # whose differences can be told from the sample

Vector = list[float]
Matrix = list[Vector]


@dataclass(frozen=True)
class Match:
    """A judgment between two policies. `share` is 1 if it preferred the first's completion, one half for neither.

    `side` is 1 where the first's was on the left, -1 on the right, 0 if unknown. `length` is the natural logarithm
    of how many times as long the first's is.
    """

    comparison: Hashable
    annotator: Hashable
    first: int
    second: int
    share: float
    side: int = 0
    length: float = 0.0


@dataclass(frozen=True)
class Strength:
    """A policy's place: the chance that it beats the anchor on an equal side, with an interval, and how often it met.

    `at_equal_length` is that chance between completions of the same length.
    """

    policy: int
    log_strength: float
    beats_anchor: Estimate
    at_equal_length: Estimate


def rank(matches: Sequence[Match], anchor: int) -> list[Strength]:
    """Return the policies by strength, strongest first. Those that nothing connects to the anchor are left out."""
    plain, controlled = fit(matches, anchor, lengths=False), fit(matches, anchor, lengths=True)
    met: dict[int, int] = defaultdict(int)
    for match in matches:
        met[match.first] += 1
        met[match.second] += 1
    found = [
        Strength(
            policy,
            plain.strengths[policy],
            plain.chance(policy, met[policy]),
            controlled.chance(policy, met[policy]),
        )
        for policy in plain.strengths
    ]
    return sorted(found, key=lambda strength: -strength.log_strength)


@dataclass(frozen=True)
class Fit:
    """Log-strengths by policy, the anchor's being 0, with their standard errors, and the effects beside them."""

    strengths: Mapping[int, float]
    errors: Mapping[int, float]
    side: float  # the log-odds that the left completion has for being there
    length: float  # for each unit of the logarithm of the ratio of lengths

    def chance(self, policy: int, count: int) -> Estimate:
        """Return the chance that a policy beats the anchor, with its interval at 95 %."""
        value, half = self.strengths[policy], NORMAL_95 * self.errors[policy]
        return Estimate(sigmoid(value), sigmoid(value - half), sigmoid(value + half), count)


def fit(matches: Sequence[Match], anchor: int, *, lengths: bool) -> Fit:
    """Fit log-strengths: P(a beats b) = sigmoid(a - b + left * side + longer * length) (Bradley and Terry 1952).

    Maximum likelihood by Newton's method, a tie being half a win for each, with PRIOR_TIES ties added to each pair
    that met. `longer` is 0 unless `lengths` asks for it. Errors are cluster-robust (Liang and Zeger 1986) by
    comparison, and by annotator too where there are FEWEST_ANNOTATORS (Cameron, Gelbach and Miller 2011): judgments
    of one comparison, or of one annotator, are not independent. The larger of both variances counts.
    """
    linked = _linked(matches, anchor)
    among = [match for match in matches if match.first in linked]
    layout = _Layout(sorted(linked - {anchor}), lengths)
    cells = _cells(among, layout)
    values, information = _maximize(cells, layout.size)
    inverse = _invert(_decompose(information))
    scores = [(match, _score(match, layout, values)) for match in among]
    variances = _variances(scores, inverse, lambda match: match.comparison)
    if len({match.annotator for match in among}) >= FEWEST_ANNOTATORS:
        by_annotator = _variances(scores, inverse, lambda match: match.annotator)
        alone = _variances(scores, inverse, lambda match: (match.comparison, match.annotator))
        two_way = [a + b - c for a, b, c in zip(variances, by_annotator, alone, strict=True)]
        variances = [max(pair) for pair in zip(variances, two_way, strict=True)]
    # The sandwich of very few judgments is too narrow: the model's own error is the least.
    variances = [max(robust, inverse[i][i]) for i, robust in enumerate(variances)]
    strengths = {anchor: 0.0} | {policy: values[place] for policy, place in layout.places.items()}
    errors = {anchor: 0.0} | {policy: math.sqrt(variances[place]) for policy, place in layout.places.items()}
    return Fit(strengths, errors, values[layout.side], values[layout.side + 1] if lengths else 0.0)


class _Layout:
    """The order of the parameters: the policies but the anchor, the side, and the length if it is asked for."""

    def __init__(self, policies: Sequence[int], lengths: bool) -> None:
        self.places = {policy: place for place, policy in enumerate(policies)}
        self.side = len(policies)
        self.lengths = lengths
        self.size = self.side + 1 + lengths

    def features(self, first: int, second: int, side: float, length: float) -> dict[int, float]:
        """Return what a match takes of each parameter, by its place."""
        found: dict[int, float] = {}
        if first in self.places:
            found[self.places[first]] = 1.0
        if second in self.places:
            found[self.places[second]] = -1.0
        if side:
            found[self.side] = float(side)
        if length and self.lengths:
            found[self.side + 1] = length
        return found


Cell = tuple[dict[int, float], float, float]  # features, the sum of shares, their number


def _linked(matches: Iterable[Match], start: int) -> set[int]:
    neighbours: dict[int, set[int]] = defaultdict(set)
    for match in matches:
        neighbours[match.first].add(match.second)
        neighbours[match.second].add(match.first)
    found, frontier = {start}, [start]
    while frontier:
        new = neighbours[frontier.pop()] - found
        found |= new
        frontier += new
    return found


def _rounded(length: float) -> float:
    return round(max(-LONGEST_RATIO, min(LONGEST_RATIO, length)) * BINS) / BINS


def _cells(matches: Iterable[Match], layout: _Layout) -> list[Cell]:
    """Return the matches by what they have in common, and the prior's ties."""
    sums: dict[tuple[int, int, int, float], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for match in matches:
        length = _rounded(match.length) if layout.lengths else 0.0
        cell = sums[match.first, match.second, match.side, length]
        cell[0] += match.share
        cell[1] += 1
    pairs = {tuple(sorted(key[:2])) for key in sums}
    prior = [(layout.features(a, b, 0, 0), PRIOR_TIES / 2, PRIOR_TIES) for a, b in pairs]
    # An effect that nothing measures must not make the information singular.
    extra = range(layout.side, layout.size)
    return [
        *((layout.features(*key), share, count) for key, (share, count) in sums.items()),
        *prior,
        *(({place: 1.0}, 0.5, 1.0) for place in extra),
    ]


def _maximize(cells: Sequence[Cell], size: int) -> tuple[Vector, Matrix]:
    """Return the maximum of the log-likelihood and its information there, by Newton's method."""
    values = [0.0] * size
    information: Matrix = []
    for _ in range(100):
        gradient, information = _likelihood(cells, values)
        step = _solve(_decompose(information), gradient)
        # The log-likelihood is concave but Newton may overshoot where a sweep makes it flat.
        longest = max((abs(value) for value in step), default=0.0)
        scale = min(1.0, 2.0 / longest) if longest else 1.0
        values = [value + scale * change for value, change in zip(values, step, strict=True)]
        if longest < 1e-10:
            break
    return values, information


def _likelihood(cells: Sequence[Cell], values: Vector) -> tuple[Vector, Matrix]:
    """Return the gradient of the log-likelihood and its negative Hessian."""
    size = len(values)
    gradient = [0.0] * size
    information = [[0.0] * size for _ in range(size)]
    for features, share, count in cells:
        chance = sigmoid(sum(values[place] * weight for place, weight in features.items()))
        surplus, curvature = share - count * chance, count * chance * (1 - chance)
        for i, weight in features.items():
            gradient[i] += weight * surplus
            for j, other in features.items():
                information[i][j] += weight * other * curvature
    return gradient, information


Scored = tuple[Match, dict[int, float]]


def _score(match: Match, layout: _Layout, values: Vector) -> dict[int, float]:
    """Return the gradient of one match's log-likelihood."""
    features = layout.features(match.first, match.second, match.side, _rounded(match.length))
    surplus = match.share - sigmoid(sum(values[place] * weight for place, weight in features.items()))
    return {place: weight * surplus for place, weight in features.items()}


def _variances(scores: Sequence[Scored], inverse: Matrix, cluster: Callable[[Match], Hashable]) -> Vector:
    """Return the diagonal of the sandwich: inverse information, squared sums of scores by cluster, inverse again."""
    sums: dict[Hashable, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for match, score in scores:
        inside = sums[cluster(match)]
        for place, value in score.items():
            inside[place] += value
    many = len(sums)
    correction = many / (many - 1) if many > 1 else 1.0
    squares = _squares(sums.values(), len(inverse))
    return [correction * _dot(row, [_dot(line, row) for line in squares]) for row in inverse]


def _squares(vectors: Iterable[Mapping[int, float]], size: int) -> Matrix:
    """Return the sum of the outer squares of vectors, of which each states few places."""
    total = [[0.0] * size for _ in range(size)]
    for vector in vectors:
        for i, value in vector.items():
            row = total[i]
            for j, other in vector.items():
                row[j] += value * other
    return total


# --- Linear algebra of some hundred parameters ---------------------------------------------------------------------


def _decompose(matrix: Matrix) -> Matrix:
    """Return the lower triangle of a positive definite matrix by Cholesky, each row up to its diagonal."""
    lower: Matrix = []
    for given in matrix:
        row: Vector = []
        lower.append(row)
        for above, value in zip(lower, given, strict=False):
            rest = value - _dot(above, row)
            row.append(math.sqrt(rest) if above is row else rest / above[-1])
    return lower


def _solve(lower: Matrix, right: Iterable[float]) -> Vector:
    """Solve a system that `_decompose` took apart."""
    solution: Vector = []
    for row, value in zip(lower, right, strict=True):
        solution.append((value - _dot(row, solution)) / row[-1])
    for i in reversed(range(len(lower))):
        row = lower[i]
        value = solution[i] = solution[i] / row[-1]
        solution[:i] = [before - value * weight for before, weight in zip(solution, row[:-1], strict=False)]
    return solution


def _invert(lower: Matrix) -> Matrix:
    """Return the inverse of the matrix that `_decompose` took apart."""
    size = len(lower)
    return [_solve(lower, [float(i == j) for j in range(size)]) for i in range(size)]


def _dot(left: Vector, right: Vector) -> float:
    """Return the sum of the products, up to the end of the shorter one."""
    total: float = sum(map(mul, left, right))
    return total


def sigmoid(value: float) -> float:
    """Return 1 / (1 + exp(-value)), without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
