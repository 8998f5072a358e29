"""Chats as their pages show them: everything that a message holds is there, under its name."""

import json
import re
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.text import rendering
from annotate.text.chat_display import Chat, Message, show_chat, show_completion
from annotate.text.chats import as_text, last_question
from tests.annotate.text.test_images import address, picture

CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Basel"}'},
}
AGENT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "name": "maria", "content": "Is it cold?"},
    {"role": "assistant", "content": None, "reasoning_content": "I should look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_7", "name": "get_weather", "content": '{"temperature": 3}'},
    {"role": "assistant", "content": "It is 3 degrees."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "And **there**?"}, {"type": "image_url", "image_url": "x.png"}],
    },
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": "look", "arguments": {"at": 1}}],
        "refusal": None,
    },
]


def words_of(chat: Chat) -> str:
    """Return everything that is read on the page."""
    messages = [*chat.opening, *chat.earlier, *chat.latest]
    html = [
        f"{message.title} {message.speaker} "
        + " ".join(f"{block.title} {block.html} {block.as_written}" for block in message.blocks)
        for message in messages
    ]
    return unescape(re.sub("<[^>]*>", "", " ".join(html)))


def test_earlier_messages_fold_and_instructions_stay() -> None:
    chat = show_chat(AGENT)
    assert [message.role for message in chat.opening] == ["system"]
    assert [message.role for message in chat.earlier] == ["user", "assistant", "tool", "assistant"]
    assert [message.role for message in chat.latest] == ["user", "assistant"]
    assert chat.earlier_title == "4 earlier messages"


@pytest.mark.parametrize("raw", [False, True])
def test_calls_and_results_are_folded_boxes_with_names(raw: bool) -> None:
    chat = show_chat(AGENT, raw=raw)
    boxes = [
        (block.title, block.is_open)
        for message in [*chat.opening, *chat.earlier, *chat.latest]
        for block in message.blocks
        if block.title
    ]
    assert boxes == [
        ("Instructions", True),
        ("reasoning_content", False),
        ("Call of get_weather (call_7)", False),
        ("Result of get_weather (call_7)", False),
        ("image_url", False),
        ("Call of a tool", False),
        ("refusal", False),
    ]
    assert '{"city": "Basel"}' in words_of(chat)
    assert "maria" in words_of(chat)


def test_arguments_are_indented_beside_what_was_written() -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": '{"near":[46.50,7.0],"n":1e2}'}}
    [message], _ = show_completion([{"role": "assistant", "content": None, "tool_calls": [call]}])
    [block] = message.blocks
    assert "\n  &quot;near&quot;: [\n    46.50,\n    7.0\n  ],\n  &quot;n&quot;: 1e2" in block.html
    assert "{&quot;near&quot;:[46.50,7.0],&quot;n&quot;:1e2}" in block.as_written
    [raw], _ = show_completion([{"role": "assistant", "content": None, "tool_calls": [call]}], raw=True)
    assert (raw.blocks[0].html, raw.blocks[0].as_written) == (block.as_written, "")


def test_results_are_indented_and_other_texts_stay() -> None:
    answers = [{"role": "tool", "name": "get", "content": text} for text in ('{"a":1}', "{a:1}")]
    chat = show_chat([{"role": "user", "content": "Look."}, *answers])
    blocks = [message.blocks[0] for message in chat.latest[1:]]
    assert [bool(block.as_written) for block in blocks] == [True, False]
    assert "{\n  &quot;a&quot;: 1\n}" in blocks[0].html


def calling(arguments: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def written(messages: list[Message]) -> list[str]:
    """Return the texts of blocks as they were written, without blanks."""
    blocks = [block for message in messages for block in message.blocks]
    return [
        re.sub(r"\s", "", unescape(re.sub("<[^>]*>", "", block.as_written or block.html))) for block in blocks
    ]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (json.dumps({"rows": [[1, 2, 3]] * 1_200}, separators=(",", ":")), 15_000),
        (json.dumps({"a": "x" * 6_000 + "\u200f" * 2_500}, ensure_ascii=False), 5_000),
    ],
)
def test_what_is_indented_takes_no_room_from_the_answer(arguments: str, answer: int) -> None:
    completion = [calling(arguments), {"role": "assistant", "content": "Z" * answer}]
    shown, is_cut = show_completion(completion)
    assert (written(shown)[1], is_cut) == ("Z" * answer, False)
    earlier = [{"role": "user", "content": "Z" * answer}, {"role": "user", "content": "Why?"}]
    chat = show_chat([*earlier, calling(arguments)])
    assert (written(chat.earlier), chat.is_cut) == (["Z" * answer], False)


def test_a_completion_that_is_cut_says_so() -> None:
    messages = [calling('{"a":1}'), {"role": "assistant", "content": "Z" * rendering.DISPLAY_LIMIT}]
    for raw in (False, True):
        shown, is_cut = show_completion(messages, raw=raw)
        assert is_cut
        assert written(shown)[1] == "Z" * (rendering.DISPLAY_LIMIT - 7)


ARGUMENTS = st.builds(
    lambda rows, hidden: json.dumps([rows, hidden], ensure_ascii=False, separators=(",", ":")),
    st.lists(st.just([1, 2]), max_size=15),
    st.text("x\u200f", max_size=12),
)


@given(
    st.lists(ARGUMENTS.map(calling) | st.integers(1, 150).map(lambda n: {"role": "user", "content": "Z" * n}))
)
def test_the_formatted_view_shows_as_much_as_the_raw_one(messages: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "DISPLAY_LIMIT", 250)
        shown, is_cut = show_completion(messages)
        raw, is_raw_cut = show_completion(messages, raw=True)
        chat, raw_chat = show_chat(messages), show_chat(messages, raw=True)
    assert (written(shown), is_cut) == (written(raw), is_raw_cut)
    for one, other in zip((chat.earlier, chat.latest), (raw_chat.earlier, raw_chat.latest), strict=True):
        assert written(one) == written(other)
    assert chat.is_cut == raw_chat.is_cut
    for block in [block for message in [*shown, *chat.latest, *chat.earlier] for block in message.blocks]:
        if block.as_written:
            laid_out = re.sub(r"\s|<[^>]*>", "", block.html)
            assert laid_out == re.sub(r"\s|<[^>]*>", "", block.as_written)


def test_large_calls_of_a_completion_are_folded() -> None:
    calls = [
        {"function": {"name": "write", "arguments": json.dumps({"text": "x" * size})}} for size in (40, 5_000)
    ]
    [message], _ = show_completion([{"role": "assistant", "content": None, "tool_calls": calls}])
    assert [block.is_open for block in message.blocks] == [True, False]


def test_long_instructions_are_folded() -> None:
    chat = show_chat([{"role": "developer", "content": "x " * 300}, {"role": "user", "content": "Go."}])
    assert [block.is_open for block in chat.opening[0].blocks] == [False]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab<&*`", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "weight"]
)


def leaves(value: Any) -> list[str]:
    """Return every text, number and key in a value."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in (str(key), *leaves(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value if isinstance(value, str) else json.dumps(value)]


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=5) | JSON, max_size=4))
def test_no_value_in_a_message_is_hidden(messages: list[Any]) -> None:
    shown, whole = words_of(show_chat(messages, raw=True)), as_text(messages)
    for message in messages:
        values = list(message.values()) if isinstance(message, dict) else [message]
        for leaf in leaves([value for value in values if value is not None]):
            if leaf not in KNOWN:
                assert leaf in shown or json.dumps(leaf)[1:-1] in shown
                assert leaf in whole or json.dumps(leaf)[1:-1] in whole


# Keys and types whose meaning the layout shows.
KNOWN = {"function", "name", "arguments", "type", "text", "id"}


def test_what_was_asked_last_has_room_before_what_came_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "DISPLAY_LIMIT", 100)
    history = [{"role": "user", "content": "o" * 90}, {"role": "assistant", "content": "n" * 60}]
    chat = show_chat([*history, {"role": "user", "content": "q" * 50}], raw=True)
    assert chat.is_cut
    assert words_of(chat).count("q") == 50
    assert "n" * 50 in words_of(chat)
    assert "n" * 51 not in words_of(chat)
    assert "o" * 2 not in words_of(chat)


def test_a_name_that_hides_characters_shows_them() -> None:
    chat = show_chat([{"role": "us\u200ber", "content": "Hi", "name": "<b>"}])
    assert "U+200B" in chat.latest[0].title
    assert chat.latest[0].speaker == "&lt;b&gt;"


def test_the_question_of_a_chat_is_what_the_user_said_last() -> None:
    assert last_question(AGENT) == "And **there**?"
    assert last_question("Plain") == "Plain"
    assert last_question([{"role": "system", "content": "Only this."}]) == "Only this."
    assert last_question([]) == ""


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "URI", "detail": "low"}},
        {"type": "input_image", "image_url": "URI"},
        {"type": "image", "image": "URI"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "DATA"}},
    ],
)
def test_an_embedded_picture_of_a_chat_is_shown(part: dict[str, Any]) -> None:
    uri = address(picture())
    told = json.loads(json.dumps(part).replace("URI", uri).replace("DATA", uri.partition(",")[2]))
    chat = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, told]}]
    (message,) = show_chat(chat).latest
    assert [block.title for block in message.blocks] == ["", "", part["type"]]
    assert f'<img src="{uri}" width="40" height="30"' in message.blocks[1].html
    (plain,) = show_chat(chat, raw=True).latest
    assert not any("<img" in block.html for block in plain.blocks)


@pytest.mark.parametrize(
    "source",
    ["https://example.org/a.png", "data:image/svg+xml;base64," + "A" * 40, "data:image/png;base64,AAAA", 7],
)
def test_an_image_that_is_remote_or_broken_stays_folded(source: object) -> None:
    chat = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": source}}]}]
    (message,) = show_chat(chat).latest
    assert [block.title for block in message.blocks] == ["image_url"]
    assert "<img" not in message.blocks[0].html
