"""The reviews' grammar, and the reward that is the truth in simulations."""

import random
import statistics
import subprocess
import sys

import pytest

from training.engine.starter.reviews import BLAME, PRAISE, distinct_2, openings, review, reward


def words(text: str) -> set[str]:
    return set("".join(letter if letter.isalpha() else " " for letter in text.lower()).split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A wonderful film.", 1.0),
        ("A DREADFUL film, a waste.", -1.0),
        ("Witty lines, lovely music, a clumsy ending.", 1 / 3),
        ("Lovely, lovely, and dull.", 1 / 3),
        ("It was filmed in Lisbon.", 0.0),
        ("", 0.0),
        ("joyless and wastefully unmoving", 0.0),
    ],
)
def test_reward_is_the_balance_of_praise_and_blame(text: str, expected: float) -> None:
    assert reward(text) == pytest.approx(expected)


def test_no_word_both_praises_and_blames() -> None:
    assert not PRAISE & BLAME
    assert min(len(PRAISE), len(BLAME)) > 40


def test_the_grammar_writes_every_word_that_the_reward_knows() -> None:
    rng = random.Random(0)
    written = words(" ".join(review(rng)[1] for _ in range(3000)))
    assert (PRAISE | BLAME) - written == set()


def test_openings_are_distinct_repeatable_and_hold_no_opinion() -> None:
    drawn = openings(1000, seed=7)
    assert len(set(drawn)) == 1000
    assert openings(1000, seed=7) == drawn
    assert openings(40, seed=7) == drawn[:40]
    assert openings(40, seed=8) != drawn[:40]
    assert not [one for one in drawn if words(one) & (PRAISE | BLAME) or one != one.strip()]


def test_more_openings_than_the_grammar_gives_are_refused() -> None:
    with pytest.raises(ValueError, match="10,000"):
        openings(10_001)


def test_reviews_continue_their_opening_to_a_full_stop() -> None:
    rng = random.Random(0)
    for _ in range(300):
        opening, continuation = review(rng)
        assert opening[-1] != " " == continuation[0] != continuation[1]
        assert continuation.endswith(".")
        assert "{" not in opening + continuation
        assert " a a" not in continuation
        assert " a e" not in continuation
        # After a full stop or a colon a sentence begins; anything else is gone on with.
        assert continuation[1].isupper() == (opening[-1] in ".:") or continuation.startswith(" I ")


def test_rewards_of_reviews_are_wide_apart_and_even_on_the_whole() -> None:
    rng = random.Random(0)
    rewards = [reward(review(rng)[1]) for _ in range(4000)]
    assert abs(statistics.mean(rewards)) < 0.04
    assert statistics.pstdev(rewards) > 0.6


def test_distinct_2_is_the_share_of_word_pairs_that_are_new() -> None:
    assert distinct_2(["a b c", "a b d"]) == 3 / 4
    assert distinct_2(["so so so so"]) == 1 / 3
    assert distinct_2(["one", ""]) == 0


def test_the_reward_is_had_without_pytorch() -> None:
    code = "import sys, training.engine.starter.reviews; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
