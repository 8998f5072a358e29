"""The outcome of ballots, and the canonical lines of pairs: quick ways give what the plain ones give."""

import json
from typing import Any

from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from annotate.pairs.ballots import Ballot, Outcome, find_outcome, outcomes
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import canonical

PREFERENCES = st.builds(
    Ballot, st.just("prefer"), st.sampled_from([1, -1]), st.sampled_from([1, 2, 3, None]), st.booleans(),
    st.integers(1, 4),
)  # fmt: skip
OTHERS = st.builds(
    Ballot, st.sampled_from(["tie", "both_bad", "skip"]), st.just(0), st.none(), st.booleans(), st.integers(1, 4)
)  # fmt: skip
RULES = st.builds(
    PairSettings, ties=st.sampled_from(["drop", "half"]), votes=st.sampled_from(["equal", "reliability"]),
    smoothing=st.sampled_from([0.0, 0.5]), min_judgments=st.integers(1, 3), include_too_fast=st.booleans(),
)  # fmt: skip
TEXTS = st.text(st.characters(codec=None), max_size=20)


@limits(max_examples=50)
@given(st.lists(PREFERENCES | OTHERS, min_size=1, max_size=5), RULES)
def test_a_remembered_outcome_is_what_counting_gives(cast: list[Ballot], rules: PairSettings) -> None:
    reliability = {1: 0.9, 2: 0.5, 3: 0.7} if rules.votes == "reliability" else None
    outcome_of = outcomes(rules, reliability)
    expected = find_outcome(cast, rules, reliability)
    assert [outcome_of(tuple(map(tuple, cast))) for _ in range(2)] == [expected, expected]  # type: ignore[misc]


@limits(max_examples=50)
@given(PREFERENCES, st.integers(1, 5))
def test_equal_votes_decide_as_one_of_them(ballot: Ballot, count: int) -> None:
    outcome = find_outcome([ballot] * count, PairSettings())
    assert outcome == Outcome(ballot.side == 1, 1.0, float(ballot.strength or 0), tuple(range(count)))


@limits(max_examples=50)
@given(TEXTS, TEXTS, st.sampled_from([0.0, 1e-9, 0.000123, 1.333333333, 3.0]), st.none() | st.floats(0.5, 1))
def test_a_canonical_line_is_plain_json_with_sorted_keys(
    prompt: str, chosen: str, margin: float, label: float | None
) -> None:
    """Snapshots are named by the hash of these lines: whatever writes them faster may not change a byte."""
    line: dict[str, Any] = {
        "comparison": 7,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": "\x7f\u2028 <&",
        "label": label,
        "margin": margin,
        "weight": 3.0,
        "held_out": False,
        "judgments": (1, 2),
    }
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert canonical(**line) == text.encode("utf-8", "surrogatepass")


def test_a_pair_that_half_of_its_voters_find_bad_stays_one() -> None:
    better, bad = Ballot("prefer", 1, 2, False, 1), Ballot("both_bad", 0, None, False, 2)
    outcome = find_outcome([better, bad], PairSettings())
    assert isinstance(outcome, Outcome)
    assert (outcome.label, outcome.counted) == (1.0, (0,))
    assert find_outcome([better, bad, bad], PairSettings()) == "both_bad"


def test_an_unknown_strength_leaves_the_margin_to_the_others() -> None:
    known, unknown = Ballot("prefer", 1, 2, False, 1), Ballot("prefer", 1, None, False, 2)
    assert find_outcome([known, unknown], PairSettings()) == Outcome(True, 1.0, 2.0, (0, 1))


def test_no_annotator_is_certain_or_counts_against_their_word() -> None:
    vote = [Ballot("prefer", 1, 2, False, 1)]
    labels = [find_outcome(vote, PairSettings(ties="half"), {1: chance}) for chance in (1.0, 0.0)]
    assert [outcome.label for outcome in labels if isinstance(outcome, Outcome)] == [0.99, 0.5]
