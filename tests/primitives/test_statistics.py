"""Figures derived by hand."""

import math

import pytest

from primitives.statistics import (
    NORMAL_95,
    Share,
    mean_estimate,
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
