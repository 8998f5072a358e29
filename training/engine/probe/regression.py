"""Bayesian logistic regression on differences of features, without an intercept: swapping the sides negates.

The first completion is better with the chance sigmoid(w . x), where x is the difference of the two completions'
features and w has an isotropic normal prior of precision alpha. The posterior is a normal one at its mode (Laplace's
approximation; MacKay, The Evidence Framework Applied to Classification Networks, 1992, which the equations are of).
A label q is the chance that the first is better by what people said alone. What is likely is then

    q sigmoid(w . x) + (1 - q) sigmoid(-w . x)        (1)

so that q = 1/2 teaches nothing, and a vote that may be wrong teaches less. All of it is float64.

With n comparisons of d features, all is computed in r = min(n, d, MOST_DIRECTIONS) directions, those in which the
differences are longest: n d min(n, d) operations once, n r^2 a step, and 8 n (d + n) bytes.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

MOST_DIRECTIONS = 512
LEAST_ALPHA, MOST_ALPHA = 1e-3, 1e6
_ROUNDS, _STEPS, _CLOSE = 30, 50, 1e-7


@dataclass(frozen=True)
class Posterior:
    """The normal posterior of the weights: N(mean, (I - basis basis^T) / alpha)."""

    mean: torch.Tensor  # (d,)
    basis: torch.Tensor  # (d, k): directions in which the labels say something, each as long as they say much
    alpha: float

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Return w . x of features or differences (n, d): (n,) float64."""
        return features.double() @ self.mean

    def deviation(self, features: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation of the score of features or differences (n, d): (n,) float64."""
        wide = features.double()
        told = (wide @ self.basis).square().sum(dim=1)
        return ((wide.square().sum(dim=1) - told) / self.alpha).clamp(min=0).sqrt()

    def chance(self, differences: torch.Tensor) -> torch.Tensor:
        """Return the chance that the first is better, of differences (n, d): MacKay's equation 9, (n,) float64."""
        return moderated(self.score(differences), self.deviation(differences))


@dataclass(frozen=True)
class Directions:
    """Differences in fewer numbers: (n, r) coordinates along orthonormal columns (d, r), None for the axes."""

    coordinates: torch.Tensor
    columns: torch.Tensor | None

    def lift(self, posterior: Posterior) -> Posterior:
        """Return a posterior over coordinates as one over features."""
        if self.columns is None:
            return posterior
        return Posterior(self.columns @ posterior.mean, self.columns @ posterior.basis, posterior.alpha)


def moderated(score: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Return sigmoid(kappa score), kappa = (1 + pi deviation^2 / 8)^(-1/2): MacKay (1992), equation 9."""
    return torch.sigmoid(score / (1 + torch.pi / 8 * deviation.square()).sqrt())


def find_directions(differences: torch.Tensor) -> Directions:
    """Return differences (n, d) along those directions in which they are longest: exactly, if so many suffice."""
    wide = differences.double()
    count, size = wide.shape
    if not count or size <= min(count, MOST_DIRECTIONS):
        return Directions(wide, None)
    if count <= size:
        lengths, vectors = torch.linalg.eigh(wide @ wide.T)
        kept = _longest(lengths)
        columns = wide.T @ (vectors[:, kept] / lengths[kept].sqrt())
    else:
        lengths, vectors = torch.linalg.eigh(wide.T @ wide)
        columns = vectors[:, _longest(lengths)]
    return Directions(wide @ columns, columns)


def _longest(lengths: torch.Tensor) -> torch.Tensor:
    """Return the places of the largest of ascending eigenvalues, without those that are rounding."""
    kept = (lengths > lengths[-1] * 1e-10).nonzero()[:, 0]
    return kept[-MOST_DIRECTIONS:]


def fit(
    coordinates: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    alpha: float | None = None,
    start: Posterior | None = None,
) -> Posterior:
    """Return the posterior given coordinates (n, r) and labels (n,), see equation 1, each counted `weights` times.

    `alpha` unset is found by the evidence: alpha = gamma / |w|^2, with gamma the number of well-determined weights
    (MacKay 1992, equation 18). `start` is a posterior to begin from. Coordinates that are all 0 give weights of 0.
    """
    count = max(1, len(coordinates))
    if weights is None:
        weights = torch.ones(len(coordinates), dtype=torch.float64)
    mean = start.mean if start else torch.zeros(coordinates.shape[1], dtype=torch.float64)
    precision = alpha or (start.alpha if start else _within(float(coordinates.square().sum()) / count))
    for _ in range(_ROUNDS):
        mean = _mode(coordinates, labels, weights, precision, mean)
        if alpha:
            break
        known = torch.linalg.eigvalsh(_curvature(coordinates, labels, weights, mean)).clamp(min=0)
        gamma = float((known / (known + precision)).sum())
        length = float(mean.square().sum())
        wanted = _within(gamma / length) if length else MOST_ALPHA
        moved, precision = abs(wanted / precision - 1), wanted
        if moved < 0.03:
            mean = _mode(coordinates, labels, weights, precision, mean)
            break
    return Posterior(mean, _basis(_curvature(coordinates, labels, weights, mean), precision), precision)


def _within(alpha: float) -> float:
    return min(max(alpha, LEAST_ALPHA), MOST_ALPHA)


def _mode(
    coordinates: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, alpha: float, mean: torch.Tensor
) -> torch.Tensor:
    """Return the posterior's mode by Fisher scoring, each step halved until it does not lose."""
    loss = _loss(coordinates, labels, weights, alpha, mean)
    for _ in range(_STEPS):
        chance, likely = _likely(coordinates, labels, mean)
        told = weights * (2 * labels - 1) * chance * (1 - chance) / likely
        slope = alpha * mean - coordinates.T @ told
        curvature = _curvature(coordinates, labels, weights, mean)
        curvature.diagonal().add_(alpha)
        step = torch.cholesky_solve(slope[:, None], torch.linalg.cholesky(curvature))[:, 0]
        if float(slope @ step) < _CLOSE:
            break
        share = 1.0
        while (found := _loss(coordinates, labels, weights, alpha, mean - share * step)) > loss:
            share /= 2
            if share < 1e-6:
                return mean
        mean, loss = mean - share * step, found
    return mean


def _likely(
    coordinates: torch.Tensor, labels: torch.Tensor, mean: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sigmoid(w . x) and equation 1, each (n,)."""
    chance = torch.sigmoid(coordinates @ mean)
    return chance, (labels * chance + (1 - labels) * (1 - chance)).clamp(min=1e-300)


def _loss(
    coordinates: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, alpha: float, mean: torch.Tensor
) -> float:
    """Return minus the log of the posterior's density, but for a constant."""
    scores = coordinates @ mean
    both = torch.stack([labels.log() + logsigmoid(scores), (1 - labels).log() + logsigmoid(-scores)])
    return float(alpha / 2 * mean.square().sum() - weights @ both.logsumexp(dim=0))


def _curvature(
    coordinates: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, mean: torch.Tensor
) -> torch.Tensor:
    """Return Fisher's information of equation 1: (r, r)."""
    chance, likely = _likely(coordinates, labels, mean)
    told = (
        (2 * labels - 1).square()
        * (chance * (1 - chance)).square()
        / (likely * (1 - likely)).clamp(min=1e-300)
    )
    return coordinates.T @ (coordinates * (weights * told)[:, None])


def _basis(curvature: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return B with (curvature + alpha I)^-1 = (I - B B^T) / alpha, without columns that say hardly anything."""
    known, vectors = torch.linalg.eigh(curvature)
    share = known.clamp(min=0) / (known.clamp(min=0) + alpha)
    kept = share > 1e-4
    return vectors[:, kept] * share[kept].sqrt()
