"""Columns with the verdict of each annotator: which are of one, and what a cell says that is not a verdict."""

from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS, find_format

PAIR = {"prompt": "Sky?", "response_a": "It is blue.", "response_b": "It is green."}
[RATERS] = [format for format in FORMATS if format.name == "side-by-side-raters"]


@pytest.mark.parametrize(
    "said",
    [
        {"Rater 1": "A", "Rater 2": "B"},
        {"annotator_alice": "A", "annotator_bob": "B"},
        {"judge1": "A", "judge2": "B"},
        {"judge_gpt4o": "A", "judge_claude": "B"},
        {"Annotator A": "A", "Annotator B": "B", "Annotator A comment": "x"},
        {"expert-李": "A", "expert-王": "B"},
        {"rater_1": "A", "rater_2": "B", "rater_3": "   "},
        {"rater_1": "A", "rater_2": "B", "rater_3": "N/A"},
    ],
    ids=str,
)
def test_a_column_of_each_annotator_is_an_opinion(said: dict[str, Any]) -> None:
    record = {**PAIR, **said}
    found = find_format([record])
    assert found is RATERS or (found is not None and found.name == RATERS.name)
    [candidate] = found.rows(record)
    assert [(one.annotator, one.scores) for one in candidate.opinions] == [
        (key, (1.0, 0.0) if place == 0 else (0.0, 1.0)) for place, key in enumerate([*said][:2])
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"rater_1_worse": "A", "rater_2_worse": "A"},
        {"rater_worse": "A", "rater_1": "A", "rater_2": "A"},
        {"rater_1_best": "A", "rater_1_worst": "B"},
        {"judge_1_rejected": "Response A", "judge_2_rejected": "Response A"},
        {"rater_1_safety": "A", "rater_1_helpfulness": "B"},
        {"rater_safety": "A", "rater_helpfulness": "B"},
        {"judge_ab": "A", "judge_ba": "B"},
        {"judge_model": "A", "judge_verdict": "B"},
        {"judge_first": "A", "judge_second": "B"},
        {"rater_left": "A", "rater_right": "B"},
        {"rater_label": "A", "rater_overall": "B"},
        {"rater_1": "A", "Rater 1": "B"},
        {"rater_1": "A", "rater_2": "B", "rater_1_left": "B"},
        {"rater_1_preference": "A", "rater_2_preference": "B"},
        {"rater_1": "A", "rater_2": "C"},
        {"rater_1": "1", "rater_2": "2"},
        {"rater_1": "A", "rater_2": 3},
    ],
    ids=str,
)
def test_what_may_not_be_of_an_annotator_is_not_read(said: dict[str, Any]) -> None:
    assert find_format([{**PAIR, **said}]) is None


def test_what_a_rater_was_shown_is_not_a_verdict() -> None:
    record = {**PAIR, "rater_1_left": "A", "rater_1_choice": "B"}
    found = find_format([record])
    assert found is not None
    [candidate] = found.rows(record)
    assert [opinion.scores for opinion in candidate.opinions] == [(0.0, 1.0)]
    assert candidate.metadata == {"rater_1_left": "A"}


@pytest.mark.parametrize("value", ["not sure, maybe", 3])
def test_a_cell_that_is_not_clear_is_refused_by_name(value: object) -> None:
    with pytest.raises(RecordError, match=f"“{value}” in Rater 2 is not a verdict that is known"):
        list(RATERS.rows({**PAIR, "Rater 1": "A", "Rater 2": value}))
