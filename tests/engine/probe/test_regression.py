"""Bayesian logistic regression: against autograd, and on data whose chances are known."""

import pytest
import torch

from training.engine.probe.fitting import fit_probe
from training.engine.probe.regression import MOST_ALPHA, find_directions, fit


def drawn(count: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weights, differences, and labels drawn by the chances that the two make."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(size, generator=generator, dtype=torch.float64) * 2 / size**0.5
    differences = torch.randn(count, size, generator=generator, dtype=torch.float64)
    chances = torch.sigmoid(differences @ weights)
    return weights, differences, (torch.rand(count, generator=generator) < chances).double()


def test_the_mode_is_that_of_autograd() -> None:
    _, differences, labels = drawn(40, 3)
    labels = labels * 0.8 + 0.1
    weights = torch.linspace(0.5, 2, 40, dtype=torch.float64)
    found = fit(differences, labels, weights, alpha=0.7)
    mode = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([mode], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        chance = torch.sigmoid(differences @ mode)
        likely = labels * chance + (1 - labels) * (1 - chance)
        value = -(weights * likely.log()).sum() + 0.35 * mode.square().sum()
        value.backward()
        return value

    search.step(loss)
    assert torch.allclose(found.mean, mode.detach(), atol=1e-3)


def test_swapping_sides_negates() -> None:
    _, differences, labels = drawn(60, 5)
    found = fit(differences, labels)
    assert torch.equal(found.score(-differences), -found.score(differences))
    assert torch.allclose(found.chance(-differences), 1 - found.chance(differences))
    swapped = fit(torch.cat([differences[:30], -differences[30:]]), torch.cat([labels[:30], 1 - labels[30:]]))
    assert torch.allclose(swapped.mean, found.mean, atol=1e-6)


def test_fewer_directions_than_features_change_nothing() -> None:
    _, differences, labels = drawn(30, 80)
    plain = fit(differences, labels, alpha=50.0)
    short = find_directions(differences)
    lifted = short.lift(fit(short.coordinates, labels, alpha=50.0))
    assert short.coordinates.shape == (30, 30)
    assert torch.allclose(lifted.mean, plain.mean, atol=1e-6)
    others = torch.randn(10, 80, dtype=torch.float64)
    assert torch.allclose(lifted.deviation(others), plain.deviation(others), atol=1e-6)


def test_chances_are_calibrated_on_fresh_data() -> None:
    _, differences, labels = drawn(3000, 20)
    found = fit(differences[:300], labels[:300])
    chances, seen = found.chance(differences[300:]), labels[300:]
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (chances >= low) & (chances < low + 0.2)
        assert float(seen[inside].mean()) == pytest.approx(float(chances[inside].mean()), abs=0.07)


def test_labels_of_one_half_teach_nothing() -> None:
    _, differences, labels = drawn(40, 3)
    more = torch.cat([differences, torch.randn(20, 3, dtype=torch.float64)])
    halves = torch.cat([labels, torch.full((20,), 0.5, dtype=torch.float64)])
    assert torch.allclose(fit(more, halves, alpha=1.0).mean, fit(differences, labels, alpha=1.0).mean)


@pytest.mark.parametrize(
    "differences",
    [
        torch.zeros(6, 3),
        torch.zeros(2, 9),
        torch.cat([torch.zeros(2, 3), torch.ones(4, 3)]),
        torch.zeros(0, 3),
    ],
)
def test_nothing_is_learnt_where_nothing_differs(differences: torch.Tensor) -> None:
    directions = find_directions(differences)
    chosen = directions.coordinates[:2]  # which are all alike
    found = directions.lift(fit(chosen, torch.ones(len(chosen), dtype=torch.float64)))
    assert found.mean.tolist() == [0.0] * differences.shape[1]
    assert found.alpha == MOST_ALPHA
    assert found.chance(torch.ones(1, differences.shape[1])).tolist() == [0.5]


def test_comparisons_that_are_missing_give_no_skill() -> None:
    found = fit_probe([], torch.zeros(0, 4))
    assert not found.skill.has_skill
    assert (found.chances, found.labels) == ([], [])
    assert found.posterior.mean.tolist() == [0.0] * 4
