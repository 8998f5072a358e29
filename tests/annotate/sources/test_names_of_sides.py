"""Texts that may be names of completions, histories of prompts, and tasks that only look like preferences."""

from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS, find_format

BY_NAME = {format.name: format for format in FORMATS}
BLUE, GREEN = "Blue is the sky.", "Green is the sky."
PAIR = {"prompt": "Sky?", "response_a": BLUE, "response_b": GREEN}
CHOSEN = {"prompt": "And?", "chosen": BLUE, "rejected": GREEN}


# --- Preferred and rejected --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {**PAIR, "model_a": "GPT 4", "model_b": "Claude 3", "preferred": "GPT 4", "rejected": "Claude 3"},
        {**PAIR, "preferred_response": "The first one", "rejected_response": "The second one"},
        {
            "question": "Sky?",
            "answer_1": BLUE,
            "answer_2": GREEN,
            "better_answer": "Answer number two",
            "worse_answer": "Answer number one",
        },
        {
            "prompt": "Sky?",
            "left": BLUE,
            "right": GREEN,
            "preferred": "The left one",
            "rejected": "The right one",
        },
        {"prompt": "Sky?", "preferred": "GPT 4", "rejected": "Claude 3", "writer": "GPT 4"},
    ],
)
def test_names_of_completions_are_not_completions(record: dict[str, Any]) -> None:
    good = {"preferred": "It is blue.", "rejected": "It is green.", "prompt": "Sky?"}
    assert find_format([record]) is None
    assert find_format([good, good, good, record]) is None or "preferred" not in record


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"model_a": "GPT 4", "model_b": "Claude 3"},
        {"tag_1": "sky", "tag_2": "color", "topic": "x"},
        {"response_a": GREEN, "response_b": BLUE},
        {"reference": BLUE * 9},
    ],
)
def test_texts_beside_plain_columns_are_completions(more: dict[str, Any]) -> None:
    record = {"prompt": "Sky?", "preferred": BLUE, "rejected": GREEN, **more}
    found = find_format([record])
    assert found is not None
    assert found.name == "preferred-rejected"
    [candidate] = found.rows(record)
    assert [answer.content for answer in candidate.answers] == [BLUE, GREEN]


# --- Histories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "history"),
    [
        ([{"role": "user", "content": "Hi"}], [["Hi", "Hello"]]),
        ([{"role": "system", "content": "S"}, {"role": "user", "content": "And?"}], [["Hi", "Hello"]]),
        ("And?", [["user", "Hi"], ["assistant", "Hello"]]),
        ("And?", [["x", None]]),
        ("And?", [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]),
        ("User: Hi there\nAssistant: Hello\nUser: And?", [["Hi there", "Hello"]]),
    ],
)
def test_a_history_that_may_not_come_before_is_metadata(prompt: Any, history: Any) -> None:
    [candidate] = BY_NAME["trl"].rows({**CHOSEN, "prompt": prompt, "history": history})
    assert candidate.prompt == prompt
    assert candidate.metadata == {"history": history}


def test_a_history_of_texts_comes_before_a_prompt_of_text() -> None:
    [candidate] = BY_NAME["trl"].rows({**CHOSEN, "system": "S", "history": [["Hi", "Hello"]]})
    assert [message["content"] for message in candidate.prompt] == ["S", "Hi", "Hello", "And?"]  # type: ignore[index]
    assert candidate.metadata is None


@pytest.mark.parametrize("name", ["llama-factory-alpaca", "ms-swift"])
def test_a_history_of_speakers_is_refused(name: str) -> None:
    record = {"chosen": BLUE, "rejected": GREEN, "history": [["human", "Hi"], ["gpt", "Hello"]]}
    own = {"instruction": "And?"} if name == "llama-factory-alpaca" else {}
    swift = {"query": "And?", "response": BLUE, "rejected_response": GREEN, "history": record["history"]}
    with pytest.raises(RecordError, match="without the names of speakers"):
        list(BY_NAME[name].rows({**record, **own} if own else swift))


# --- Labels and questions ----------------------------------------------------------------------------------------


def task(text: str, *options: str) -> dict[str, Any]:
    listed = [{"id": option[:3], "text": option} for option in options]
    return {"text": text, "options": listed, "accept": [options[0][:3]], "answer": "accept"}


def test_options_that_all_tasks_share_are_labels() -> None:
    labels = ("Positive", "Negative")
    assert find_format([task("I love it.", *labels), task("I hate it.", *labels)]) is None
    for tasks in (
        [task("Sky?", BLUE, GREEN), task("Sea?", "Deep it is.", "It is wet.")],
        [task("Sky?", BLUE, GREEN)] * 2,
    ):
        found = find_format(tasks)
        assert found is not None
        assert found.name == "prodigy"


@pytest.mark.parametrize(
    "more",
    [
        {"turns": [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "Sky?"}]},
        {"turns": ["Sky?"], "winner": "model_a"},
    ],
)
def test_a_chat_or_a_battle_is_not_a_question(more: dict[str, Any]) -> None:
    assert find_format([{"question_id": 1, **more}]) is None


def test_ratings_of_different_aspects_are_not_compared() -> None:
    record = {
        "prompt": "Sky?",
        "completions": {
            "model": ["m", "n"],
            "response": [BLUE, GREEN],
            "annotations": [
                {"Helpfulness": {"Rating": "4"}, "Ethics": {"Rating": "N/A"}},
                {"Helpfulness": {"Rating": "5"}, "Ethics": {"Rating": "1"}},
            ],
        },
    }
    [candidate] = BY_NAME["vlfeedback"].rows(record)
    assert candidate.opinions[0].scores == (4.0, 5.0)
    rows = zip(record["completions"]["response"], record["completions"]["annotations"], strict=True)  # type: ignore[index]
    completions = [{"response": text, "annotations": about} for text, about in rows]
    [candidate] = BY_NAME["ultrafeedback"].rows({"instruction": "Sky?", "completions": completions})
    assert candidate.opinions[0].scores == (4.0, 5.0)
