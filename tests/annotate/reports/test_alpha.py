"""Krippendorff's alpha: the figure of the book, and an interval that holds the truth about as often as it says."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from annotate.reports.alpha import Said, estimate_alpha

AGREED, PARTED = (2, 0, 0, 0), (1, 1, 0, 0)


def draw(rng: random.Random, count: int, right: Sequence[float], present: float = 1.0) -> Counter[Said]:
    """Draw what annotators say, each right that often. Some comparisons are hard, and some verdicts are ties."""
    units: Counter[Said] = Counter()
    for _ in range(count):
        better, chance = rng.randrange(2), rng.choice((0.5, 1.0, 1.0))
        said = [0, 0, 0, 0]
        for one in right:
            if rng.random() < present:
                is_right = rng.random() < 0.5 + (one - 0.5) * chance
                said[2 if rng.random() < 0.1 else better if is_right else 1 - better] += 1
        if sum(said) > 1:
            units[tuple(said)] += 1
    return units


@pytest.mark.parametrize("count", [20, 100])
@pytest.mark.parametrize(
    ("right", "present"), [((0.95, 0.95), 1.0), ((0.9, 0.5), 1.0), ((0.85, 0.8, 0.7), 0.7), ((0.9,) * 5, 1.0)]
)
def test_the_interval_holds_the_truth(right: Sequence[float], present: float, count: int) -> None:
    rng = random.Random(1)
    truth = estimate_alpha(draw(rng, 30_000, right, present))
    assert truth is not None
    found = [estimate_alpha(draw(rng, count, right, present)) for _ in range(300)]
    held = [one.low <= truth.value <= one.high for one in found if one is not None]
    assert sum(held) / len(held) >= 0.92


def test_the_interval_narrows_with_comparisons() -> None:
    few, many = (estimate_alpha({AGREED: 8 * n, (0, 2, 0, 0): 8 * n, PARTED: 4 * n}) for n in (1, 25))
    assert few is not None
    assert many is not None
    assert few.low < many.low < many.value < many.high < few.high
    assert few.value == pytest.approx(many.value, abs=0.02)


def test_agreement_on_all_of_a_few_is_not_certain() -> None:
    found = estimate_alpha({AGREED: 5, (0, 2, 0, 0): 5})
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.7


@pytest.mark.parametrize(
    "units", [{PARTED: 50}, {PARTED: 49, (0, 0, 1, 1): 1}, {(1, 1, 1, 1): 10, (1, 1, 1, 0): 10}]
)
def test_disagreement_on_all_is_known_not_to_be_agreement(units: dict[Said, int]) -> None:
    found = estimate_alpha(units)
    assert found is not None
    assert found.low - 1e-9 <= found.value <= found.high < 0


@pytest.mark.parametrize("units", [{}, {AGREED: 9}])
def test_one_category_alone_has_no_alpha(units: dict[Said, int]) -> None:
    assert estimate_alpha(units) is None


def test_one_comparison_tells_next_to_nothing() -> None:
    for units in ({PARTED: 1}, {AGREED: 20, PARTED: 1}):
        found = estimate_alpha(units)
        assert found is not None
        assert (found.low, found.high) == (-1.0, 1.0)
