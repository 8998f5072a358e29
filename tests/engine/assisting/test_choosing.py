"""The pairs that several rated completions become."""

import math

import pytest

from training.engine.assisting.choosing import Rated, chance_of, choose_pairs


def rated(text: str, score: float, reason: str = "stop", deviation: float = 0.0) -> Rated:
    return Rated({"completion": text, "finish_reason": reason}, score, deviation)


def chosen(group: list[Rated], candidates: int = 4) -> list[tuple[str, str]]:
    return [(one.best.text, one.worst.text) for one in choose_pairs(group, candidates)]


def test_best_and_worst_of_each_few_become_a_pair_then_the_next() -> None:
    scores = [rated(str(score), score) for score in (1, 3, 2, 0, 5, 6, 4, 7)]
    assert chosen(scores) == [("3", "0"), ("2", "1"), ("7", "4"), ("6", "5")]
    assert chosen(scores, 3) == [("3", "1"), ("6", "0"), ("7", "4")]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ([rated("a", 9, "length"), rated("b", 1), rated("c", 0)], [("b", "c")]),  # cut ones are left out
        ([rated("a", 9, "length"), rated("b", 1)], [("a", "b")]),  # unless too few ended
        ([rated("a", 1), rated("b", 1)], []),
        ([rated("a", 1), rated(" a", 0)], []),
        ([rated("a", 1)], []),
    ],
)
def test_what_does_not_differ_makes_no_pair(group: list[Rated], expected: list[tuple[str, str]]) -> None:
    assert chosen(group) == expected


def test_label_is_the_probes_chance_less_what_it_does_not_know() -> None:
    assert chance_of(rated("a", 2), rated("b", 0)) == pytest.approx(1 / (1 + math.exp(-2)))
    moderated = 2 / math.sqrt(1 + math.pi * 2 / 8)
    sure, unsure = rated("a", 2, deviation=1), rated("b", 0, deviation=1)
    assert chance_of(sure, unsure) == pytest.approx(1 / (1 + math.exp(-moderated)))
    assert chance_of(unsure, sure) == pytest.approx(1 - chance_of(sure, unsure))
    assert chance_of(rated("a", 2000), rated("b", 0)) == 1.0
