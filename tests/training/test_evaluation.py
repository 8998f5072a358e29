"""Strengths of policies, derived by hand."""

import math

import pytest

from primitives.statistics import NORMAL_95
from training.standings.strengths import bradley_terry, rank, sigmoid


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


def test_ranking_is_repeatable_and_strongest_first() -> None:
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


def test_the_bootstrap_interval_of_a_pair_is_of_its_log_odds() -> None:
    """sd of ln(a/b) is sqrt(1/a + 1/b): 160 to 80 wins give sigmoid(ln 2 +- 1.96 * 0.137)."""
    strength = next(s for s in rank({(1, 2): (80.0, 160.0, 0.0)}, anchor=1, resamples=2000) if s.policy == 2)
    half = NORMAL_95 * math.sqrt(1 / 160 + 1 / 80)
    assert strength.beats_anchor.low == pytest.approx(sigmoid(math.log(2) - half), abs=0.015)
    assert strength.beats_anchor.high == pytest.approx(sigmoid(math.log(2) + half), abs=0.015)
