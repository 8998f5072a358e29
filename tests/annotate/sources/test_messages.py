"""Chats of all formats become messages with nothing lost, and a prompt inside completions is found as TRL finds it."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotate.sources.candidates import Answer
from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from annotate.sources.messages import read_chat, read_transcript, split_chats, split_texts
from tests.annotate.sources.cases import SKY, assistant, user

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
IMAGE = {"type": "image_url", "image_url": {"url": PIXEL}}

CHATS: list[tuple[list[Any], list[Any]]] = [
    (  # several calls at once, as ms-swift writes them
        [
            {"role": "tool_call", "content": '{"name": "weather", "arguments": {"city": "Rome"}}'},
            {"role": "tool_call", "content": '{"name": "time"}'},
            {"role": "tool_response", "content": "sun"},
        ],
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [CALL, {"type": "function", "function": {"name": "time"}}],
            },
            {"role": "tool", "content": "sun"},
        ],
    ),
    (  # OpenAI's older calls
        [
            {"role": "assistant", "content": None, "function_call": {"name": "time", "arguments": "{}"}},
            {"role": "function", "name": "time", "content": "9"},
        ],
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"type": "function", "function": {"name": "time", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "9", "name": "time"},
        ],
    ),
    (  # LLaMA-Factory's parts
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "value": "Hm."},
                    {"type": "text", "value": "a"},
                    {"type": "text", "value": " b"},
                ],
            }
        ],
        [{"role": "assistant", "content": "a b", "reasoning_content": "Hm."}],
    ),
    (  # a table fills what a message lacks with null, and an empty content is one
        [
            {"role": "developer", "content": "", "name": "ann", "tool_calls": None},
            {"role": "assistant", "content": "a", "thinking": "Hm."},
        ],
        [
            {"role": "developer", "content": "", "name": "ann"},
            {"role": "assistant", "content": "a", "reasoning_content": "Hm."},
        ],
    ),
    (
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": " a "},
                    {"type": "image_url", "image_url": {"url": PIXEL}, "text": None},
                ],
            }
        ],
        [{"role": "user", "content": [{"type": "text", "text": " a "}, IMAGE]}],
    ),
]


@pytest.mark.parametrize(("written", "read"), CHATS)
def test_a_chat_keeps_what_its_messages_say(written: list[Any], read: list[Any]) -> None:
    assert read_chat(written, "messages") == read


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ([{"role": "judge", "content": "a"}], "message 1 of messages has the role “judge”"),
        ([user("a"), {"role": "user", "content": 5}], "message 2 of messages must have text, parts or null"),
        ([{"from": "function_call", "value": "{"}], "not valid JSON"),
        ([{"from": "function_call", "value": "[]"}], "it has no name"),
        ("a", "must be a list of messages"),
    ],
)
def test_a_chat_that_cannot_be_read_says_where(written: Any, sentence: str) -> None:
    with pytest.raises(RecordError, match=sentence):
        read_chat(written, "messages")


def test_a_transcript_keeps_its_blanks() -> None:
    chat = read_transcript("\n\nHuman:  a \n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant:", "chosen")
    assert chat == [user(" a \n\nb"), assistant("c"), user("d")]


# --- A prompt inside both completions ----------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.text("ab ", min_size=1), st.text("ab ", min_size=1))
@example("The sky is blue.", "The sky is green.")
def test_texts_are_split_as_trl_splits_them(chosen: str, rejected: str) -> None:
    place = 0
    for place in range(min(len(chosen), len(rejected))):
        if chosen[place] != rejected[place]:
            place -= place > 0 and chosen[place - 1] == " "  # noqa: PLW2901
            break
    assert split_texts(chosen, rejected) == (chosen[:place], chosen[place:], rejected[place:])


def test_chats_are_split_before_the_first_answer_that_differs() -> None:
    sure = user("Sure?")
    chats = {
        "chosen": [*SKY, assistant("Blue."), sure, assistant("Yes.")],
        "rejected": [*SKY, assistant("Blue."), assistant("No.")],
    }
    assert split_chats(chats) == (SKY, [chats["chosen"][1:], chats["rejected"][1:]])
    chats["rejected"] = [*SKY, assistant("Blue."), sure, assistant("No.")]
    assert split_chats(chats) == ([*SKY, assistant("Blue."), sure], ["Yes.", "No."])
    with pytest.raises(RecordError, match="same prompt"):
        split_chats({"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("b")]})


# --- What cannot stay in a chat ----------------------------------------------------------------------------------


def read_one(**record: Any) -> Any:
    found = find_format([record])
    assert found is not None
    [candidate] = found.rows(record)
    return candidate


def test_images_of_a_record_stand_where_their_tags_are() -> None:
    found = read_one(prompt="<image>What? <image>", images=[PIXEL, {"url": PIXEL}], chosen="a", rejected="b")
    assert found.prompt == [{"role": "user", "content": [IMAGE, {"type": "text", "text": "What? "}, IMAGE]}]
    assert (found.losses, found.metadata) == ((), None)
    found = read_one(prompt="What?", images=[PIXEL], chosen="a", rejected="b")
    assert found.prompt[0]["content"] == [IMAGE, {"type": "text", "text": "What?"}]


def test_images_of_a_parquet_file_are_taken_with_their_bytes() -> None:
    """`datasets` writes an image as its bytes and the path that it once had."""
    image = {"bytes": PIXEL, "path": "a.png"}
    for images in ({"images": [image]}, {"image": image}):
        found = read_one(prompt="What?", chosen="a", rejected="b", **images)
        assert found.prompt[0]["content"] == [IMAGE, {"type": "text", "text": "What?"}]
        assert (found.losses, found.metadata) == ((), None)
    assert read_one(prompt="What?", chosen="a", rejected="b", image={"bytes": "junk", "path": "a.png"}).losses


def test_a_part_that_is_no_medium_is_named_as_what_it_is() -> None:
    call = [{"type": "tool_use", "name": "f", "input": {}}]
    found = read_one(prompt="Sky?", chosen=[{"role": "assistant", "content": call}], rejected="b")
    assert "“tool_use”" in found.losses[0]


def test_a_part_that_is_a_text_alone_needs_no_type() -> None:
    for part in ({"text": "Sky?"}, {"type": "input_text", "text": "Sky?"}):
        found = read_one(prompt=[{"role": "user", "content": [part]}], chosen="a", rejected="b")
        assert found.prompt == [user("Sky?")]


def test_a_message_of_one_text_part_is_that_text() -> None:
    chosen, rejected = (
        [{"role": "assistant", "content": [{"type": "text", "text": text, "image": None}]}] for text in "ab"
    )
    found = read_one(prompt=SKY, chosen=chosen, rejected=rejected)
    assert found.answers == (Answer("a"), Answer("b"))


def test_media_elsewhere_are_a_loss_and_their_address_a_text() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "https://a.org/b.png"}},
        {"type": "text", "text": "What?"},
    ]
    found = read_one(prompt=[{"role": "user", "content": parts}], chosen="a", rejected="b")
    assert found.prompt[0]["content"][0] == {"type": "text", "text": "[image_url: https://a.org/b.png]"}
    assert "data URIs" in found.losses[0]


def test_what_no_template_knows_of_a_message_is_metadata() -> None:
    asked, said = {**user("Sky?"), "at": 1}, {**assistant("Blue."), "at": 2}
    found = read_one(chosen=[asked, said], rejected=[{**asked, "at": 3}, assistant("Green.")])
    assert (found.prompt, found.metadata) == (SKY, {"about_messages": [{"at": 1}]})
    assert found.answers == (Answer("Blue.", metadata={"about_messages": [{"at": 2}]}), Answer("Green."))


def test_chats_that_python_printed_are_refused() -> None:
    record = {
        "prompt": "Sky?",
        "chosen": "[{'role': 'assistant', 'content': 'a'}]",
        "rejected": "[{'role': 'assistant'}]",
    }
    with pytest.raises(RecordError, match="as Python prints them"):
        read_one(**record)


def test_a_call_that_names_the_mark_is_the_whole_call() -> None:
    arguments = {"text": "See <tool_call> and </tool_call>."}
    value = json.dumps([{"name": "add", "arguments": arguments}])
    chat = [{"from": "human", "value": "2 + 2?"}, {"from": "function_call", "value": value}]
    [call] = read_chat(chat, "chat")[1]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": arguments}


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ('{"name": "add"}', None),
        ('I look.<tool_call>[{"name": "add"}]</tool_call>', "I look."),
        ('<tool_call>{"name": "add"}</tool_call>I look.', "I look."),
        ('<think>\nHm.\n</think>\n\n[{"name": "add"}]', "<think>\nHm.\n</think>\n\n"),
    ],
)
def test_what_stands_beside_calls_of_llama_factory_is_kept(value: str, content: str | None) -> None:
    chat = [{"from": "human", "value": "2 + 2?"}, {"from": "function_call", "value": value}]
    calls = [{"type": "function", "function": {"name": "add"}}]
    assert read_chat(chat, "chat")[1] == {"role": "assistant", "content": content, "tool_calls": calls}
