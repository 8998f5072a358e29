"""The strength of the tilt that has a KL."""

import math
import random
import statistics

import pytest

from training.engine.assisting.tilting import find_strength, largest_kl, tilted_kl


def test_strength_is_that_of_the_normal_distribution() -> None:
    """A normal distribution with deviation s, tilted by b, moves by b s^2: its KL is b^2 s^2 / 2."""
    normal = statistics.NormalDist(5, 2)
    scores = [normal.inv_cdf((place + 0.5) / 20_000) for place in range(20_000)]
    assert find_strength([scores], 0.5) == pytest.approx(0.5, rel=0.01)


def test_kl_of_two_outcomes_is_as_by_hand() -> None:
    share = 1 / (1 + math.exp(-3))
    kl = share * math.log(2 * share) + (1 - share) * math.log(2 * (1 - share))
    assert tilted_kl([0, 1], 3) == pytest.approx(kl)
    assert find_strength([[0, 1]], kl) == pytest.approx(3, rel=1e-6)


def test_what_a_prompt_is_worth_does_not_count() -> None:
    apart = [[0.0, 1.0, 2.0], [100.0, 101.0, 102.0]]
    assert find_strength(apart, 0.3) == pytest.approx(find_strength([[0.0, 1.0, 2.0]], 0.3))


@pytest.mark.parametrize("scores", [[], [[1.0, 1.0]], [[3.0], [5.0]]])
def test_scores_without_a_difference_have_no_strength(scores: list[list[float]]) -> None:
    assert find_strength(scores, 2.0) == 0.0


def test_a_kl_that_no_tilt_has_gives_the_sharpest() -> None:
    strength = find_strength([[0.0, 1.0]], 5.0)
    assert math.isfinite(strength)
    assert tilted_kl([-0.5, 0.5], strength) == pytest.approx(math.log(2))


def test_completions_show_half_of_what_a_tilt_may_have() -> None:
    scores = [[float(at) for at in range(50)], [float(at) for at in range(50)]]  # two of them are the best
    assert largest_kl(scores) == pytest.approx(math.log(100 / 3) / 2)


@pytest.mark.parametrize(
    "scores", [[], [[1.0, 1.0]], [[3.0], [5.0]], [[0.0, 1.0]], [[0.0, 1.0, 1.0]]], ids=str
)
def test_scores_that_describe_no_policy_show_no_kl(scores: list[list[float]]) -> None:
    assert largest_kl(scores) == 0.0


@pytest.mark.parametrize("count", [3, 4, 6, 8, 16, 64])
def test_few_completions_ask_for_no_senseless_gap(count: int) -> None:
    """The normal distribution that these scores are drawn from asks for gaps of about 10 at a KL of 3 nats."""
    rng = random.Random(0)
    for _ in range(300):
        scores = [[rng.gauss(0, 1) for _ in range(count)]]
        if kl := min(3.0, largest_kl(scores)):
            assert find_strength(scores, kl) * (max(scores[0]) - min(scores[0])) < 40


def test_completions_of_a_usual_round_show_the_kl_asked_for() -> None:
    rng = random.Random(0)
    assert largest_kl([[rng.gauss(0, 1) for _ in range(12)] for _ in range(500)]) > 3
