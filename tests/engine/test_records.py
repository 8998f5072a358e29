"""Chats in the forms that other tools write are understood or refused by line, and never half read."""

import json
from pathlib import Path

import pytest

from training.engine.errors import DataError
from training.engine.records import TrainingPair, read_pairs

USER = {"role": "user", "content": "a"}
CALL = {"function": {"name": "search"}}
ANSWER, OTHER = ({"role": "assistant", "content": text} for text in "bc")


def read(tmp_path: Path, **row: object) -> TrainingPair:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"id": 1, "prompt": [USER], "chosen": "b", "rejected": "c"} | row))
    (pair,) = read_pairs(path)
    return pair


def parts(*texts: str) -> list[dict]:
    return [{"type": "text", "text": text} for text in texts]


def test_content_in_text_parts_is_joined(tmp_path: Path) -> None:
    pair = read(tmp_path, prompt=[{"role": "user", "content": parts("hello ", "there")}])
    assert pair.prompt == [{"role": "user", "content": "hello there"}]
    chosen = [{"role": "assistant", "content": parts("b")}]
    assert read(tmp_path, chosen=chosen).chosen.text == [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize("prompt", ["a", [USER]])
def test_whole_chats_are_split_behind_the_prompt(prompt: object, tmp_path: Path) -> None:
    pair = read(tmp_path, prompt=prompt, chosen=[USER, ANSWER], rejected=[USER, OTHER])
    assert (pair.prompt, pair.chosen.text, pair.rejected.text) == ([USER], [ANSWER], [OTHER])


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": [{"role": "user", "content": None}]}, "prompt has a message whose content is not text"),
        ({"prompt": [{"role": "user", "content": 5}]}, "prompt has a message whose content is not text"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "prompt holds content of type image_url; only text can be trained on",
        ),
        (
            {"prompt": "a", "chosen": [ANSWER | {"tool_calls": [CALL]}]},
            "chosen holds tool_calls, which needs a prompt of chat messages",
        ),
        (
            {"prompt": "a", "chosen": [ANSWER | {"reasoning_content": "so"}]},
            "chosen holds reasoning_content, which",
        ),
        ({"chosen": [ANSWER | {"tool_calls": [{"id": 1}]}]}, "chosen has tool_calls that are not a list of"),
        (
            {"chosen": [OTHER, ANSWER], "rejected": [OTHER, OTHER]},
            "chosen must be text, one assistant message, or",
        ),
        ({"tools": "search"}, "tools must be a list of objects"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_line(row: dict, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^pairs.jsonl line 1: {sentence}"):
        read(tmp_path, **row)


def test_calls_and_reasoning_stay_with_a_completion(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    thought = ANSWER | {"reasoning_content": "so"}
    pair = read(tmp_path, chosen=[call], rejected=[thought])
    assert (pair.chosen.text, pair.rejected.text) == ([call], [thought])


def test_a_call_of_a_tool_needs_no_content_in_a_prompt(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "search"}}]}
    pair = read(
        tmp_path, prompt=[USER, call, {"role": "tool", "content": "found"}], tools=[{"name": "search"}]
    )
    assert pair.prompt[1] == call
    assert pair.tools == [{"name": "search"}]
