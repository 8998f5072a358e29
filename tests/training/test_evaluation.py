"""Figures derived by hand, and the one promise that cannot be: an interval that holds while people look at it."""

import math
import random

import pytest

from training.evaluation import (
    Z,
    bradley_terry,
    confidence_sequence,
    mean_estimate,
    rank,
    sigmoid,
    wilson,
)


def test_wilson_interval_of_eight_in_ten_is_the_textbooks() -> None:
    estimate = wilson(8, 10)
    assert estimate is not None
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = 0.8, n = 10, z = 1.96
    assert (estimate.value, round(estimate.low, 4), round(estimate.high, 4)) == (0.8, 0.4902, 0.9433)


def test_wilson_interval_of_no_success_starts_at_zero_and_ends_at_z2_over_n_plus_z2() -> None:
    estimate = wilson(0, 10)
    assert estimate is not None
    assert estimate.low == 0
    assert estimate.high == pytest.approx(Z**2 / (10 + Z**2))


def test_there_is_no_estimate_without_data() -> None:
    assert wilson(0, 0) is None
    assert confidence_sequence(0, 0) is None
    assert mean_estimate([]) is None


def test_confidence_sequence_after_one_win_excludes_means_below_one_fortieth() -> None:
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


def test_confidence_sequence_holds_at_every_look_where_wilson_does_not() -> None:
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


def test_mean_of_one_two_three_has_a_standard_error_of_one_over_root_three() -> None:
    estimate = mean_estimate([1, 2, 3])
    assert estimate is not None
    assert (estimate.value, estimate.high - 2) == (2, pytest.approx(Z / math.sqrt(3)))


def test_bradley_terry_of_two_policies_is_the_log_odds() -> None:
    # 3 wins to 1, and the prior's tie gives each one half: ln(3.5 / 1.5).
    assert bradley_terry({(1, 2): (1, 3, 0)}, anchor=1) == {1: 0.0, 2: pytest.approx(math.log(3.5 / 1.5))}


def test_bradley_terry_counts_a_tie_as_half_a_win_for_each() -> None:
    # 2 wins and 2 ties against nothing: 2 + 1 + 1/2 against 1 + 1/2.
    assert bradley_terry({(1, 2): (0, 2, 2)}, anchor=1)[2] == pytest.approx(math.log(3.5 / 1.5))


def test_bradley_terry_along_a_chain_adds_log_odds() -> None:
    tally = {(1, 2): (1.0, 3.0, 0.0), (2, 3): (2.0, 5.0, 1.0)}
    strengths = bradley_terry(tally, anchor=1)
    second = math.log(3.5 / 1.5)
    assert strengths[2] == pytest.approx(second)
    assert strengths[3] == pytest.approx(second + math.log((5 + 1) / (2 + 1)))


def test_bradley_terry_expects_as_many_wins_as_were_seen() -> None:
    """The likelihood equations: for each policy, wins (with the prior's) equal the sum of chances times games."""
    tally = {(1, 2): (4, 9, 1), (2, 3): (3, 8, 2), (1, 3): (2, 12, 0), (3, 4): (5, 5, 3), (1, 4): (1, 6, 0)}
    strengths = bradley_terry(tally, anchor=1)
    for policy in strengths:
        wins = expected = 0.0
        for (a, b), (wins_a, wins_b, ties) in tally.items():
            if policy in (a, b):
                won = wins_a if policy == a else wins_b
                other = b if policy == a else a
                wins += won + (ties + 1) / 2
                expected += (wins_a + wins_b + ties + 1) * sigmoid(strengths[policy] - strengths[other])
        assert wins == pytest.approx(expected)


def test_a_clean_sweep_has_a_finite_strength() -> None:
    assert bradley_terry({(1, 2): (0, 50, 0)}, anchor=1)[2] == pytest.approx(math.log(50.5 / 0.5))


def test_a_policy_that_never_met_the_others_has_no_strength() -> None:
    assert set(bradley_terry({(1, 2): (1, 1, 0), (3, 4): (1, 0, 0)}, anchor=1)) == {1, 2}


def test_ranking_is_strongest_first_with_intervals_around_the_estimate_and_repeatable() -> None:
    tally = {(1, 2): (10.0, 30.0, 4.0), (2, 3): (25.0, 15.0, 0.0)}
    ranked = rank(tally, anchor=1)
    assert [strength.policy for strength in ranked] == [2, 3, 1]
    for strength in ranked:
        assert strength.beats_anchor.low <= strength.beats_anchor.value <= strength.beats_anchor.high
    assert ranked[0].beats_anchor.low > 0.5  # 30 of 40 is a clear lead
    assert ranked[0].beats_anchor.count == 84
    assert ranked == rank(tally, anchor=1)


def test_more_judgments_narrow_the_bootstrap_interval() -> None:
    def width(factor: int) -> float:
        strength = next(
            s for s in rank({(1, 2): (4.0 * factor, 6.0 * factor, 0.0)}, anchor=1) if s.policy == 2
        )
        return strength.beats_anchor.high - strength.beats_anchor.low

    assert width(25) < 0.5 * width(1)


def test_the_bootstrap_interval_of_one_pair_is_that_of_its_log_odds() -> None:
    """sd of ln(a/b) is sqrt(1/a + 1/b): 160 to 80 wins give sigmoid(ln 2 +- 1.96 * 0.137)."""
    strength = next(s for s in rank({(1, 2): (80.0, 160.0, 0.0)}, anchor=1, resamples=2000) if s.policy == 2)
    half = Z * math.sqrt(1 / 160 + 1 / 80)
    assert strength.beats_anchor.low == pytest.approx(sigmoid(math.log(2) - half), abs=0.015)
    assert strength.beats_anchor.high == pytest.approx(sigmoid(math.log(2) + half), abs=0.015)
