"""Evidence by betting: wealth derived by hand, and a promise that holds while people look."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives.evidence import (
    BETS,
    Design,
    chance_to_refute,
    interval,
    is_hopeless,
    log_wealth,
    more_needed,
    refutes,
)

OBSERVATIONS = st.lists(st.sampled_from([1.0, 0.5, 0.0, -0.25, -1.0]), max_size=20)


def test_wealth_after_a_win_and_a_loss_is_the_stakes() -> None:
    won, lost = log_wealth([1.0, -1.0])
    # Equal parts, each multiplied by 1 + b and then by 1 - b.
    assert math.exp(won) == pytest.approx(1 + sum(BETS) / 5)
    assert math.exp(lost) == pytest.approx(sum(1 - bet**2 for bet in BETS) / 5)


def test_a_tie_changes_nothing() -> None:
    assert [*log_wealth([0.0, 1.0, 0.0])][1:] == [*log_wealth([1.0, 0.0])]


def test_the_claim_of_another_mean_takes_it_from_each_gain() -> None:
    # Of a mean of 1/2, a win is (1 - 1/2) / (1 + 1/2) = 1/3 and a tie is (0 - 1/2) / (1 + 1/2) = -1/3.
    won, tied = log_wealth([1.0, 0.0], mean=0.5)
    assert math.exp(won) == pytest.approx(sum(1 + bet / 3 for bet in BETS) / 5)
    assert math.exp(tied) == pytest.approx(sum(1 - bet**2 / 9 for bet in BETS) / 5)


@pytest.mark.parametrize("outcomes", [(1, -1), (1, 0, 0, -1), (0.5, -0.25, -0.25)])
def test_equals_are_seldom_refuted_however_often_one_looks(outcomes: tuple[float, ...]) -> None:
    """1,000 paths of 150 observations with the mean 0, each looked at all the time."""
    generator = random.Random(7)
    refuted = sum(refutes((generator.choice(outcomes) for _ in range(150)), alpha=0.05) for _ in range(1000))
    assert 0 < refuted <= 64  # two standard errors above 50, the most that may be expected


@settings(max_examples=50)
@given(OBSERVATIONS)
def test_the_interval_excludes_zero_exactly_when_it_is_refuted(observations: list[float]) -> None:
    found = interval(observations, 0.05, 0.1)
    if found is None:
        assert not observations
        return
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (found.low > 0) == refutes(observations, 0.05)
    assert (found.high < 0) == refutes([-one for one in observations], 0.1)


def test_the_interval_narrows_to_a_real_difference() -> None:
    generator = random.Random(3)
    many = [generator.choice((1, 1, 1, 0, -1)) for _ in range(400)]
    found = interval(many, 0.05, 0.05)
    assert found is not None
    assert 0 < found.low < 0.4 < found.high < 0.6


def test_a_sure_winner_decides_as_soon_as_its_wealth_allows() -> None:
    first = next(n for n in range(1, 50) if sum((1 + bet) ** n for bet in BETS) / 5 >= 20)
    assert chance_to_refute(Design(first, 1, 0.0, 0.05), 1.0) == 1
    assert chance_to_refute(Design(first - 1, 1, 0.0, 0.05), 1.0) == 0
    # With a quarter of ties all must be decided.
    assert chance_to_refute(Design(first, 1, 0.25, 0.05), 1.0) == pytest.approx(0.75**first)


def test_the_exact_chance_is_the_simulated_one() -> None:
    design = Design(60, 1, 0.2, 0.05)
    generator = random.Random(1)

    def draw() -> float:
        return 0.0 if generator.random() < 0.2 else 1.0 if generator.random() < 0.7 else -1.0

    simulated = sum(refutes((draw() for _ in range(60)), 0.05) for _ in range(1000)) / 1000
    assert chance_to_refute(design, 0.7) == pytest.approx(simulated, abs=0.05)


def test_many_draws_of_few_prompts_decide_seldom() -> None:
    assert chance_to_refute(Design(10, 15, 0.25, 0.03), 0.7) < 0.1
    assert chance_to_refute(Design(150, 1, 0.25, 0.03), 0.7) > 0.9


def test_what_is_needed_decides_if_it_goes_on_so() -> None:
    so_far = [1.0, 1.0, -1.0, 1.0, 0.0] * 4
    more = more_needed(so_far, 0.05)
    assert more is not None
    assert not refutes(so_far, 0.05)
    assert refutes(so_far + [1.0, 1.0, -1.0, 1.0, 0.0] * math.ceil(more / 5), 0.05)
    assert more_needed([1.0, -1.0], 0.05) is None
    assert more_needed([], 0.05) is None


def test_a_gate_that_loses_is_hopeless_and_one_that_wins_is_not() -> None:
    assert is_hopeless([-1.0] * 15 + [1.0] * 5, left=60, alpha=0.03)
    assert not is_hopeless([1.0] * 13 + [-1.0] * 7, left=60, alpha=0.03)
    assert is_hopeless([1.0] * 13 + [-1.0] * 7, left=3, alpha=0.03)
    assert not is_hopeless([-1.0] * 3, left=60, alpha=0.03)
