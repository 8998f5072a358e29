"""Verdicts that could be taken for their opposite, or that stand beside another: refused, and never guessed."""

import re
from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS, find_format
from annotate.sources.formats.verdicts import read_verdict

TEXTS = {"prompt": "q", "response_a": "x", "response_b": "y"}
MODELS = {**TEXTS, "model_a": "m1", "model_b": "m2"}
TOLOKA = {
    "INPUT:prompt": "q",
    "INPUT:response_a": "x",
    "INPUT:response_b": "y",
    "ASSIGNMENT:worker_id": "w",
}
MTURK = {
    "HITId": "h",
    "WorkerId": "w",
    "Input.prompt": "q",
    "Input.response_a": "x",
    "Input.response_b": "y",
}
CHOICE = {"type": "choices", "value": {"choices": ["response_a"]}}


def read(name: str, record: dict[str, Any]) -> list[Any]:
    [found] = [each for each in FORMATS if each.name == name]
    return list(found.rows(record))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("rejected", "response_a"),
        ("loser_of_the_two", "a"),
        ("dispreferred", "a"),
        ("less_preferred", "A"),
        ("least_selected", "A"),
    ],
)
def test_a_column_of_the_loser_is_refused_by_name(column: str, value: str) -> None:
    record = {**MODELS, column: value}
    assert find_format([record]) is None
    with pytest.raises(RecordError, match=f"“{column}” names the worse completion"):
        read("side-by-side", record)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("loser", "m1"),
        ("loser", "a"),
        ("Losing model", "m1"),
        ("rejected_model", "m1"),
        ("worse_response", "Response A"),
        ("rejected_response", "response_a"),
        ("worst", "A"),
        ("worst", "m1"),
    ],
)
def test_a_column_that_names_the_loser_prefers_the_other(column: str, value: str) -> None:
    record = {**MODELS, column: value}
    found = find_format([record])
    assert found is not None
    assert (found.name, found.becomes) == ("side-by-side", "judged")
    [candidate] = found.rows(record)
    assert candidate.opinions[0].scores == (0.0, 1.0)
    assert candidate.metadata is None


@pytest.mark.parametrize(("value", "scores"), [("tie", (0.5, 0.5)), ("both bad", ()), ("skip", ())])
def test_a_tie_is_a_tie_under_the_loser_too(value: str, scores: tuple[float, ...]) -> None:
    [candidate] = read("side-by-side", {**TEXTS, "loser": value})
    assert candidate.opinions[0].scores == scores


@pytest.mark.parametrize(
    "value", ["A is better", "A>B", "[[A]]", "prefers A", "A is slightly better", "1", "m3", "both"]
)
def test_what_does_not_name_the_loser_is_refused(value: str) -> None:
    record = {**MODELS, "loser": value}
    assert find_format([record]) is None
    with pytest.raises(RecordError, match=f"“{re.escape(value)}” in loser is not a verdict that is known"):
        read("side-by-side", record)


def test_a_loser_that_names_both_sides_is_refused() -> None:
    swapped = {**TEXTS, "model_a": "B", "model_b": "A", "loser": "A"}
    assert find_format([swapped]) is None


def test_a_winner_beside_a_loser_is_not_recognised() -> None:
    assert find_format([{**MODELS, "winner": "a", "loser": "b"}]) is None


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("toloka", {**TOLOKA, "OUTPUT:worse": "a"}),
        (
            "mturk",
            {**MTURK, "Answer.worse": "a"},
        ),
        ("potato", {**TEXTS, "user": "u", "worse:::A": "true"}),
        (
            "label-studio-flat",
            {**TEXTS, "annotation_id": 1, "annotator": 1, "lead_time": 2.0, "worse": "a"},
        ),
        ("argilla", {"fields": TEXTS, "responses": {"worse": [{"user_id": "u", "value": ["response_a"]}]}}),
        ("argilla", {"fields": TEXTS, "responses": {"worse": [{"user_id": "u", "value": "response_a"}]}}),
    ],
)
def test_a_tools_question_for_the_loser_is_refused(name: str, record: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="“worse” names the worse completion"):
        read(name, record)


def test_a_number_of_the_loser_is_refused() -> None:
    said = {"less_preferred": [{"user_id": "u", "value": 1}]}
    with pytest.raises(RecordError, match="“less_preferred” names the worse completion"):
        read("argilla", {"fields": TEXTS, "responses": said})


def test_an_annotation_of_the_loser_is_not_a_preference() -> None:
    record = {
        "data": TEXTS,
        "annotations": [{"completed_by": 1, "result": [{**CHOICE, "from_name": "worse"}]}],
    }
    with pytest.raises(RecordError, match="“worse” names the worse completion"):
        read("label-studio", record)


@pytest.mark.parametrize("second", [{"overall": "B"}, {"selected_model": "m2"}])
def test_two_columns_of_verdicts_are_not_recognised(second: dict[str, str]) -> None:
    assert find_format([{**MODELS, "preferred": "A", **second}]) is None


def test_a_rating_beside_a_verdict_is_kept_as_metadata() -> None:
    [candidate] = read("side-by-side", {**TEXTS, "preferred": "A", "overall": 4})
    assert candidate.opinions[0].scores == (1.0, 0.0)
    assert candidate.metadata == {"overall": 4}


def test_an_unclear_hint_does_not_become_a_comparison() -> None:
    record = {**TEXTS, "result": "B by far"}
    assert find_format([record]) is None
    with pytest.raises(RecordError, match="“B by far” in result is not a verdict that is known"):
        read("side-by-side", record)


@pytest.mark.parametrize("key", ["likert", "likert_score", "slider", "sxs_rating", "sbs score"])
@pytest.mark.parametrize("value", [1, 7, -3, "5"])
def test_a_scale_between_two_completions_is_not_forgotten(key: str, value: object) -> None:
    assert find_format([{**TEXTS, key: value}]) is None


def test_a_letter_that_names_the_other_author_is_refused() -> None:
    swapped = {**TEXTS, "model_a": "B", "model_b": "A", "winner": "A"}
    with pytest.raises(RecordError, match="“A” in winner is not a verdict that is known"):
        read("side-by-side", swapped)
    [candidate] = read("side-by-side", {**swapped, "model_a": "A", "model_b": "B"})
    assert candidate.opinions[0].scores == (1.0, 0.0)


def test_a_battle_whose_winner_names_both_sides_is_refused() -> None:
    chats = {
        f"conversation_{side}": [{"role": "user", "content": "q"}, {"role": "assistant", "content": side}]
        for side in "ab"
    }
    with pytest.raises(RecordError, match="winner must be"):
        read("arena", {**chats, "model_a": "model_b", "model_b": "model_a", "winner": "model_a"})


def test_c_is_a_tie_of_two_answers_alone() -> None:
    assert read_verdict("[[C]]", ("x", "y")) is not None
    assert read_verdict("[[C]]", ("x", "y", "z")) is None


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("toloka", {**TOLOKA, "OUTPUT:better": "a", "INPUT:image": "https://x/y.png"}),
        (
            "mturk",
            {**MTURK, "Input.image": "https://x/y.png", "Answer.better": "a"},
        ),
    ],
)
def test_media_of_a_task_that_cannot_be_taken_are_a_loss(name: str, record: dict[str, Any]) -> None:
    [candidate] = read(name, record)
    assert candidate.losses


def test_media_inside_a_tasks_chat_are_a_loss() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "q"}, image]}]
    record = {
        "data": {**TEXTS, "prompt": asked},
        "annotations": [{"result": [{**CHOICE, "from_name": "better"}]}],
    }
    [candidate] = read("label-studio", record)
    assert candidate.losses
