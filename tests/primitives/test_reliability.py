"""Reliability from votes: simulated annotators whose chance to be right is known."""

import random

import pytest

from primitives.reliability import PRIOR_ACCURACY, Item, chance_of_first, estimate, merge


def voted_items(true: dict[str, float], count: int, overlap: int, known: float = 0.5) -> list[Item]:
    """Return comparisons with votes of annotators right as often as `true` says.

    Something else besides the votes is right about the better one with the chance `known`.
    """
    rng = random.Random(1)
    items = []
    for place in range(count):
        first = rng.random() < 0.5
        voters = [list(true)[(place + step) % len(true)] for step in range(overlap)]
        votes = tuple((one, first if rng.random() < true[one] else not first) for one in voters)
        told = first if rng.random() < known else not first
        items.append(Item(votes, known if told else 1 - known))
    return items


@pytest.mark.parametrize(("count", "overlap", "known"), [(450, 1, 0.98), (150, 3, 0.5)])
def test_known_reliabilities_are_recovered(count: int, overlap: int, known: float) -> None:
    true = {"a": 0.9, "b": 0.9, "c": 0.5}
    found = estimate(voted_items(true, count, overlap, known))
    for annotator, value in true.items():
        assert found[annotator].value == pytest.approx(value, abs=0.07)
        assert found[annotator].low < value < found[annotator].high


def test_a_vote_without_other_evidence_says_nothing() -> None:
    found = estimate(voted_items({"a": 0.9, "b": 0.5}, 200, overlap=1))
    for one in found.values():
        assert one.value == pytest.approx(PRIOR_ACCURACY, abs=1e-3)
        assert one.checks == 0


def test_two_who_contradict_each_other_come_out_alike() -> None:
    found = estimate(voted_items({"a": 0.9, "b": 0.5}, 200, overlap=2))
    assert found["a"].value == found["b"].value
    assert found["a"].value < PRIOR_ACCURACY


def test_items_may_be_counted_together() -> None:
    items = voted_items({"a": 0.9, "b": 0.8}, 60, overlap=2)
    together = [Item(item.votes, times=items.count(item)) for item in set(items)]
    assert estimate(together)["a"].value == pytest.approx(estimate(items)["a"].value, abs=1e-3)


def test_work_grows_with_pairs_of_people_not_with_votes() -> None:
    true = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.5}
    items = voted_items(true, 4_000, overlap=2)
    assert len(merge(items)) == 2 * len(true)  # each meets the next: they agree, or they do not
    assert estimate(items)["a"].value == pytest.approx(0.9, abs=0.07)


def test_the_chance_of_the_first_is_naive_bayes() -> None:
    item = Item((("a", True), ("b", False)), 0.6)
    odds = 0.6 / 0.4 * (0.9 / 0.1) * (0.3 / 0.7)
    assert chance_of_first(item, {"a": 0.9, "b": 0.7}) == pytest.approx(odds / (1 + odds))
