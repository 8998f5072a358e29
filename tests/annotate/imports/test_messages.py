"""Chats as agents write them, with calls of tools and their results: taken as they are, and stored whole."""

import pytest

from annotate.imports.files.whole import import_whole
from annotate.imports.messages import check_message, text_of
from annotate.imports.reader import RowError
from annotate.models import Prompt
from tests.annotate.imports.rows import jsonl

CALL = {"id": "call_7", "type": "function", "function": {"name": "look_up", "arguments": '{"q": 1}'}}
AGENT = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "name": "maria", "content": [{"type": "text", "text": "Is it cold?"}]},
    {"role": "assistant", "content": None, "reasoning_content": "Look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_7", "name": "look_up", "content": ""},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "look_up", "arguments": {}}]},
    {"role": "tool", "content": "3 degrees"},
    {"role": "user", "content": "And there?"},
]


def test_a_chat_with_calls_is_stored_as_it_is(project):
    import_whole(project, jsonl({"prompt": AGENT}), "jsonl")
    assert Prompt.objects.get().content == AGENT


def test_a_key_that_is_null_is_left_out(project):
    message = {"role": "user", "content": "Hi", "name": None, "tool_calls": None}
    assert check_message(message, "message 1") == {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("Hello", "must be an object"),
        ({"content": "x"}, "must be an object with role"),
        ({"role": "user", "content": None}, "must be text"),
        ({"role": "user", "content": ""}, "is empty"),
        ({"role": "user", "content": []}, "must be text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "not text"),
        ({"role": "user", "content": [{"type": "text", "text": "a\x00"}]}, "NUL"),
        ({"role": "user", "content": "x", "weight": 1}, "the key “weight”"),
        ({"role": "user", "content": "x", "name": 5}, "name must be text"),
        ({"role": "assistant", "content": "x", "tool_calls": {}}, "tool_calls must be a list"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}, "tool_calls must be a list"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "must be text"),
        (
            {"role": "assistant", "content": None, "tool_calls": [{**CALL, "x": "y" * 70_000}]},
            "at most 65,536",
        ),
    ],
)
def test_a_message_that_no_template_takes_is_refused(message, says):
    with pytest.raises(RowError, match="message 3") as refused:
        check_message(message, "message 3")
    assert says in str(refused.value)


def test_all_of_a_message_counts_towards_its_size():
    assert text_of({"role": "user", "content": "Hi"}) == "Hi"
    assert "Look." in text_of(AGENT[2])
    assert CALL["function"]["name"] in text_of(AGENT[2])
