"""Figures derived by hand."""

import math
import random
from collections import Counter

import pytest

from primitives.statistics import (
    NORMAL_95,
    Share,
    UnitSums,
    mean_estimate,
    median_of_counts,
    percent,
    sum_shares,
    wilson,
)


def test_wilson_interval_of_eight_in_ten_is_the_textbooks() -> None:
    estimate = wilson(8, 10)
    assert estimate is not None
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = 0.8, n = 10, z = 1.96
    assert (estimate.value, round(estimate.low, 4), round(estimate.high, 4)) == (0.8, 0.4902, 0.9433)


def test_wilson_interval_of_no_success_has_its_closed_form() -> None:
    estimate = wilson(0, 10)
    assert estimate is not None
    assert estimate.low == 0
    assert estimate.high == pytest.approx(NORMAL_95**2 / (10 + NORMAL_95**2))


def test_there_is_no_estimate_without_data() -> None:
    assert wilson(0, 0) is None
    assert mean_estimate([]) is None


def test_mean_of_one_two_three_has_its_standard_error() -> None:
    estimate = mean_estimate([1, 2, 3])
    assert estimate is not None
    assert (estimate.value, estimate.high - 2) == (2, pytest.approx(NORMAL_95 / math.sqrt(3)))


@pytest.mark.parametrize(("share", "shown"), [(0.583, "58 %"), (1, "100 %"), (None, "–"), ("", "–")])
def test_a_share_is_shown_as_a_percentage(share, shown) -> None:
    assert percent(share) == shown


def test_shares_add_up_by_their_counts() -> None:
    assert sum_shares([Share(1, 2), Share(3, 10)]) == Share(4, 12)
    assert sum_shares([]).value is None


def sum_units(units: list[tuple[int, int]]) -> UnitSums:
    """Return the sums over units of (count, total)."""
    return UnitSums(
        len(units),
        sum(count for count, _ in units),
        sum(total for _, total in units),
        sum(count * count for count, _ in units),
        sum(count * total for count, total in units),
        sum(total * total for _, total in units),
    )


def test_units_of_one_thing_each_are_worth_their_number() -> None:
    found = sum_units([(1, 1)] * 7 + [(0, 1)] * 3).as_share()
    assert (found, found.interval) == (Share(7, 10), Share(7, 10).interval)


def test_units_that_all_agree_are_worth_one_answer_each() -> None:
    found = sum_units([(10, 10)] * 8).as_share()
    assert found.interval == Share(8, 8).interval
    assert sum_units([(4, 10)]).as_share().interval == Share(2, 5, 1).interval
    assert sum_units([]).as_share() == Share(0, 0)


@pytest.mark.parametrize("comparisons", [12, 60])
@pytest.mark.parametrize("verdicts", [2, 3, 5])
def test_the_interval_of_agreement_covers_in_95_of_100(verdicts: int, comparisons: int) -> None:
    """Annotators judge easy comparisons and hard ones. The share of pairs that agree is known."""
    rng = random.Random(verdicts)
    chances = (0.6, 0.95)
    truth = sum(right**2 + (1 - right) ** 2 for right in chances) / len(chances)
    pairs = math.comb(verdicts, 2)

    def judge() -> tuple[int, int]:
        right = rng.choice(chances)
        said = Counter(rng.random() < right for _ in range(verdicts))
        return sum(math.comb(count, 2) for count in said.values()), pairs

    trials = 1_000
    intervals = (sum_units([judge() for _ in range(comparisons)]).as_share().interval for _ in range(trials))
    covered = sum(low <= truth <= high for low, high in intervals) / trials
    assert 0.93 <= covered <= 0.98


@pytest.mark.parametrize(
    ("counts", "median"),
    [
        ({}, None),
        ({3: 1}, 3),
        ({1: 1, 2: 1}, 1.5),
        ({1: 2, 9: 1}, 1),
        ({1: 1, 5: 1, 9: 2}, 7),
        ({2: 4}, 2),
        ({1: 1, 2: 0, 3: 1}, 2),
    ],
)
def test_the_median_of_counts_is_that_of_the_numbers(counts: dict[float, int], median: float | None) -> None:
    assert median_of_counts(counts) == median
