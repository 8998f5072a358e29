"""Strengths of policies, derived by hand."""

import math
import random
import time

import pytest

from primitives.statistics import NORMAL_95
from training.standings.strengths import Match, fit, rank, sigmoid


def matches(tally: dict[tuple[int, int], tuple[int, int, int]]) -> list[Match]:
    """Return judgments, each of a comparison of its own by one annotator: (a, b) -> a's wins, b's wins, ties."""
    found: list[Match] = []
    for (a, b), counts in tally.items():
        for share, count in zip((1.0, 0.0, 0.5), counts, strict=True):
            found += [Match((a, b, share, number), "ann", a, b, share) for number in range(count)]
    return found


def strengths(tally: dict[tuple[int, int], tuple[int, int, int]]) -> dict[int, float]:
    return dict(fit(matches(tally), 1, lengths=False).strengths)


def test_bradley_terry_of_two_policies_is_the_log_odds() -> None:
    # 3 wins to 1, and the prior's tie gives each one half: ln(3.5 / 1.5).
    assert strengths({(1, 2): (1, 3, 0)}) == {1: 0.0, 2: pytest.approx(math.log(3.5 / 1.5))}


def test_bradley_terry_counts_a_tie_as_half_a_win_for_each() -> None:
    # 2 wins and 2 ties against nothing: 2 + 1 + 1/2 against 1 + 1/2.
    assert strengths({(1, 2): (0, 2, 2)})[2] == pytest.approx(math.log(3.5 / 1.5))


def test_bradley_terry_along_a_chain_adds_log_odds() -> None:
    found = strengths({(1, 2): (1, 3, 0), (2, 3): (2, 5, 1)})
    second = math.log(3.5 / 1.5)
    assert found[2] == pytest.approx(second)
    assert found[3] == pytest.approx(second + math.log((5 + 1) / (2 + 1)))


def test_bradley_terry_expects_as_many_wins_as_were_seen() -> None:
    """The likelihood equations: for each policy, wins (with the prior's) equal the sum of chances times games."""
    tally = {(1, 2): (4, 9, 1), (2, 3): (3, 8, 2), (1, 3): (2, 12, 0), (3, 4): (5, 5, 3), (1, 4): (1, 6, 0)}
    found = strengths(tally)
    for policy in found:
        wins = expected = 0.0
        for (a, b), (wins_a, wins_b, ties) in tally.items():
            if policy in (a, b):
                won = wins_a if policy == a else wins_b
                other = b if policy == a else a
                wins += won + (ties + 1) / 2
                expected += (wins_a + wins_b + ties + 1) * sigmoid(found[policy] - found[other])
        assert wins == pytest.approx(expected)


def test_a_clean_sweep_has_a_finite_strength() -> None:
    assert strengths({(1, 2): (0, 50, 0)})[2] == pytest.approx(math.log(50.5 / 0.5))


def test_a_policy_that_never_met_the_others_has_no_strength() -> None:
    assert set(strengths({(1, 2): (1, 1, 0), (3, 4): (1, 0, 0)})) == {1, 2}


def test_a_preference_for_the_left_is_not_a_strength() -> None:
    """The left wins 3 of 4, whichever policy it is; policy 2 is on the left three times as often, and wins 5 of 8."""
    found = [
        Match((side, number), "ann", 2, 1, share, side)
        for side, shares in ((1, [1.0] * 9 + [0.0] * 3), (-1, [0.0] * 3 + [1.0]))
        for number, share in enumerate(shares * 20)
    ]
    plain = fit([Match(m.comparison, m.annotator, 2, 1, m.share) for m in found], 1, lengths=False)
    fair = fit(found, 1, lengths=False)
    assert plain.strengths[2] == pytest.approx(math.log(10 / 6), abs=0.02)
    assert fair.strengths[2] == pytest.approx(0, abs=0.02)
    assert fair.side == pytest.approx(math.log(3), abs=0.02)


def test_a_preference_for_long_texts_is_told_from_strength() -> None:
    """Annotators choose by length alone: longer by ln 2 wins 4 of 5. Policy 2 writes the longer one 3 times in 4."""
    ratio = math.log(2)
    found = [
        Match((length, number), "ann", 2, 1, share, 0, length)
        for length, shares in ((ratio, [1.0] * 12 + [0.0] * 3), (-ratio, [0.0] * 4 + [1.0]))
        for number, share in enumerate(shares * 20)
    ]
    strength = next(place for place in rank(found, 1) if place.policy == 2)
    assert strength.beats_anchor.low > 0.5
    assert strength.at_equal_length.value == pytest.approx(0.5, abs=0.01)


def test_ranking_is_strongest_first_with_its_counts() -> None:
    ranked = rank(matches({(1, 2): (10, 30, 4), (2, 3): (25, 15, 0)}), anchor=1)
    assert [strength.policy for strength in ranked] == [2, 3, 1]
    assert ranked[0].beats_anchor.low > 0.5  # 30 of 40 is a clear lead
    assert ranked[0].beats_anchor.count == 84


def test_independent_judgments_give_the_interval_of_log_odds() -> None:
    """sd of ln(a/b) is sqrt(1/a + 1/b): 160 to 80 wins give sigmoid(ln 2 +- 1.96 * 0.137)."""
    strength = next(s for s in rank(matches({(1, 2): (80, 160, 0)}), anchor=1) if s.policy == 2)
    half = NORMAL_95 * math.sqrt(1 / 160 + 1 / 80)
    assert strength.beats_anchor.low == pytest.approx(sigmoid(math.log(2) - half), abs=0.005)
    assert strength.beats_anchor.high == pytest.approx(sigmoid(math.log(2) + half), abs=0.005)


def test_few_judgments_are_no_more_certain_than_their_model() -> None:
    """Four ties have no spread at all. With the prior's, five games of p = 1/2 tell 5 / 4: the sd is sqrt(4 / 5)."""
    assert fit(matches({(1, 2): (0, 0, 4)}), 1, lengths=False).errors[2] == pytest.approx(math.sqrt(4 / 5))


def test_ten_equal_verdicts_on_one_comparison_count_as_one() -> None:
    """The score of a cluster is ten times a judgment's, and clusters are a tenth: the error is sqrt(10) times."""
    alone = matches({(1, 2): (8, 16, 0)})
    together = [
        Match(m.comparison, f"ann {copy}", m.first, m.second, m.share) for m in alone for copy in range(10)
    ]
    apart = [
        Match((m.comparison, copy), "ann", m.first, m.second, m.share) for m in alone for copy in range(10)
    ]
    errors = [fit(of, 1, lengths=False).errors[2] for of in (together, apart)]
    assert errors[0] / errors[1] == pytest.approx(math.sqrt(10), rel=0.05)


def test_annotators_who_differ_widen_the_interval() -> None:
    """Ten annotators, each of one mind: half of them always prefer policy 2."""
    generator = random.Random(0)
    divided = [Match((who, number), who, 1, 2, float(who % 2)) for who in range(10) for number in range(40)]
    mixed = [Match(m.comparison, m.annotator, 1, 2, float(generator.random() < 0.5)) for m in divided]
    errors = [fit(of, 1, lengths=False).errors[2] for of in (divided, mixed)]
    assert errors[0] > 4 * errors[1]


def test_many_policies_are_ranked_in_seconds() -> None:
    """One decomposition serves all columns of an inverse. With one for each, this took twenty times as long."""
    generator = random.Random(0)
    many = [
        Match(number, number % 9, *generator.sample(range(150), 2), generator.choice([0.0, 0.5, 1.0]))
        for number in range(3_000)
    ]
    started = time.process_time()
    ranked = rank(many, anchor=0)
    assert time.process_time() - started < 6
    assert len(ranked) == 150
