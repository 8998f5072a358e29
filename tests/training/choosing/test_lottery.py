"""The candidates of a prompt, and the draw among them: pure functions, and promises about chance."""

import math
import random
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.rounds.choosing.candidates import Candidate, Group, count_uneven, sift
from training.rounds.choosing.lottery import Odds, draw, propensity, rank

WORDS = (
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "frost",
    "grove",
    "heath",
    "iris",
    "juniper",
    "kelp",
    "larch",
)


def group(number: int, scores: list[float], entry: str = "", words: list[str] | None = None) -> Group:
    """Return a group whose texts say nothing alike."""
    texts = words or [" ".join(random.Random(f"{number} {place}").choices(WORDS, k=12)) for place in range(9)]
    candidates = [Candidate(place, texts[place], score) for place, score in enumerate(scores)]
    return Group(entry or f"fresh/1/{number}", 0, tuple(candidates))


def some_groups(count: int, seed: int = 1) -> list[Group]:
    generator = random.Random(seed)
    return [
        group(number, [generator.gauss(0, 1) for _ in range(generator.choice([2, 3, 5]))])
        for number in range(count)
    ]


# --- Candidates --------------------------------------------------------------------------------------------------


def test_candidates_that_cannot_be_shown_are_counted_out() -> None:
    passed: Counter[str] = Counter()
    texts = [("A film.", False), (" A film.", False), ("", False), ("Another one.", False), ("It goes", True)]
    texts += [("No database\0holds it.", False)]
    found = sift([Candidate(i, text, 0.0, is_cut) for i, (text, is_cut) in enumerate(texts)], passed)
    assert [one.index for one in found] == [0, 3]
    assert passed == {"equal": 1, "empty": 1, "cut": 1, "unstorable": 1}


def test_cut_candidates_stay_where_too_few_are_whole() -> None:
    found = sift([Candidate(0, "Whole.", 0.0), Candidate(1, "Cu", 0.0, True)], Counter())
    assert len(found) == 2


def test_very_unequal_lengths_make_no_pair_unless_all_do() -> None:
    texts = ["short " * 10, "middle " * 12, "long " * 100]
    three = group(1, [0.0, 1.0, 5.0], words=texts)
    assert [(one.index, other.index) for one, other in three.pairs] == [(0, 1)]
    assert three.gap == 1.0
    assert count_uneven(three) == 2
    assert group(1, [0.0, 5.0], words=[texts[0], texts[2]]).gap == 5.0


# --- The draw ----------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(1, 25), st.integers(1, 25), st.sampled_from([0.1, 0.25, 0.6, 1.0]), st.integers(0, 9))
def test_propensities_of_a_prompts_pairs_sum_to_one(
    groups: int, wanted: int, control: float, seed: int
) -> None:
    ranked = rank(some_groups(groups, seed), 1)
    odds = Odds(groups, min(wanted, groups), control)
    for place, one in enumerate(ranked):
        chances = [propensity(odds, place, one, pair) for pair in one.pairs]
        assert math.fsum(chances) == pytest.approx(1.0)
        assert min(chances) > 0
    # Each comparison that is shown comes from one group: the chances of all groups add up to their number.
    shown = math.fsum(odds.as_control() + odds.by_probe(place) for place in range(groups))
    assert shown == pytest.approx(odds.wanted)


def test_stated_chances_are_those_of_the_draw() -> None:
    """4,000 draws of 6 from 9 groups: every pair comes as often as its propensity says, within 4.5 errors."""
    ranked = rank(some_groups(9), 1)
    odds, draws = Odds(9, 6, 0.35), 4000
    seen: Counter[Any] = Counter()
    for seed in range(draws):
        for drawn in draw(ranked, 6, 0.35, str(seed)):
            seen[drawn.group.entry, drawn.pair] += 1
    for place, one in enumerate(ranked):
        asked = odds.as_control() + odds.by_probe(place)
        for pair in one.pairs:
            chance = asked * propensity(odds, place, one, pair)
            error = math.sqrt(chance * (1 - chance) / draws) + 1e-9
            assert abs(seen[one.entry, pair] / draws - chance) < 4.5 * error


def test_the_control_is_uniform_over_groups_and_pairs() -> None:
    ranked = rank(some_groups(6), 1)
    seen: Counter[Any] = Counter()
    draws = 3000
    for seed in range(draws):
        controls = [one for one in draw(ranked, 4, 0.25, str(seed)) if one.arm == "control"]
        assert len(controls) == 1
        seen[controls[0].group.entry, controls[0].pair] += 1
    for one in ranked:
        for pair in one.pairs:
            chance = 1 / 6 / len(one.pairs)
            assert abs(seen[one.entry, pair] / draws - chance) < 4.5 * math.sqrt(chance / draws)


def test_the_same_seed_draws_the_same() -> None:
    ranked = rank(some_groups(12), 1)
    assert draw(ranked, 8, 0.25, "reviews-3") == draw(ranked, 8, 0.25, "reviews-3")
    assert draw(ranked, 8, 0.25, "reviews-3") != draw(ranked, 8, 0.25, "reviews-4")


def test_the_probe_shows_the_widest_pairs_of_other_groups() -> None:
    ranked = rank(some_groups(12), 1)
    drawn = draw(ranked, 6, 0.25, "reviews-3")
    by_chance = {one.group.entry for one in drawn if one.arm == "control"}
    chosen = [one for one in drawn if one.arm == "probe"]
    others = [one for one in ranked if one.entry not in by_chance]
    assert {one.group.entry for one in chosen} == {one.entry for one in others[:4]}
    assert all(one.pair == max(combinations(one.group.candidates, 2), key=_gap) for one in chosen)


def _gap(pair: tuple[Candidate, Candidate]) -> float:
    return abs(pair[0].score - pair[1].score)


def test_repeats_of_a_prompt_or_a_text_come_last() -> None:
    same = [f"{words} of the very same long winded sentence about films" for words in ("praise", "blame")]
    wide, near = group(1, [0.0, 9.0], words=same), group(2, [0.0, 8.0], words=same)
    again, narrow = group(3, [0.0, 7.0], entry=wide.entry), group(4, [0.0, 0.1])
    assert rank([narrow, again, near, wide], 1) == [wide, narrow, near, again]
    assert rank([narrow, again, near, wide], 2) == [wide, again, narrow, near]


def test_chances_of_a_large_draw_are_finite_and_whole() -> None:
    odds = Odds(20_000, 16_000, 0.25)
    assert odds.by_probe(0) == pytest.approx(0.8)
    assert odds.by_probe(19_999) == pytest.approx(0.0)
    assert 0.05 < odds.by_probe(15_000) < 0.75
