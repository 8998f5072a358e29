"""Figures derived by hand, and the one promise that cannot be: an interval that holds while people look at it."""

import math
import random

import pytest

from primitives.statistics import (
    NORMAL_95,
    Share,
    confidence_sequence,
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
    assert confidence_sequence(0, 0) is None
    assert mean_estimate([]) is None


def test_confidence_sequence_of_one_win_excludes_low_means() -> None:
    estimate = confidence_sequence(1, 1)
    assert estimate is not None
    # M(m) = B(2, 1) / m = 1 / 2m, and 1 / 2m < 20 is m > 1/40.
    assert estimate.low == pytest.approx(1 / 40)
    assert estimate.high == 1


def test_confidence_sequence_after_a_win_and_a_loss() -> None:
    estimate = confidence_sequence(1, 2)
    assert estimate is not None
    # M(m) = B(2, 2) / m(1-m) = 1 / 6m(1-m), and M(m) < 20 is m(1-m) > 1/120.
    root = math.sqrt(1 - 4 / 120)
    assert estimate.low == pytest.approx((1 - root) / 2)
    assert estimate.high == pytest.approx((1 + root) / 2)


def test_confidence_sequence_counts_a_tie_as_one_half() -> None:
    estimate = confidence_sequence(0.5, 1)
    assert estimate is not None
    # M(m) = B(3/2, 3/2) / sqrt(m(1-m)) with B(3/2, 3/2) = pi/8, and M(m) < 20 is m(1-m) > (pi/160)².
    root = math.sqrt(1 - 4 * (math.pi / 160) ** 2)
    assert estimate.low == pytest.approx((1 - root) / 2)
    assert estimate.high == pytest.approx((1 + root) / 2)


def test_confidence_sequence_holds_where_wilson_does_not() -> None:
    """Fair coins, looked at after each of 120 tosses: the chance of ever excluding one half is at most 5 %."""
    generator = random.Random(7)
    paths, excluded = 200, {"sequence": 0, "wilson": 0}
    for _ in range(paths):
        heads, seen = 0.0, set()
        for count in range(1, 121):
            heads += generator.choice((0.0, 0.5, 1.0)) if count % 3 == 0 else generator.randrange(2)
            for name, interval in (("sequence", confidence_sequence), ("wilson", wilson)):
                if name in seen:
                    continue
                estimate = interval(heads, count)
                assert estimate is not None
                if not estimate.low <= 0.5 <= estimate.high:
                    seen.add(name)
        for name in seen:
            excluded[name] += 1
    assert excluded["sequence"] / paths <= 0.05
    assert excluded["wilson"] / paths > 0.2


def test_confidence_sequence_narrows_to_a_real_difference() -> None:
    estimate = confidence_sequence(70, 100)
    assert estimate is not None
    assert 0.5 < estimate.low < 0.7 < estimate.high < 0.85


def test_mean_of_one_two_three_has_its_standard_error() -> None:
    estimate = mean_estimate([1, 2, 3])
    assert estimate is not None
    assert (estimate.value, estimate.high - 2) == (2, pytest.approx(NORMAL_95 / math.sqrt(3)))


@pytest.mark.parametrize(("share", "shown"), [(0.583, "58 %"), (1, "100 %"), (None, "–"), ("", "–")])
def test_a_share_is_shown_as_a_percentage(share, shown) -> None:
    assert percent(share) == shown


def test_shares_add_up_by_their_counts() -> None:
    assert sum_shares([Share(1, 2), Share(3, 10)]) == Share(4, 12)
    assert sum_shares([]).share is None
