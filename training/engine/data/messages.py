"""The content of a chat's messages: text, thoughts and tool calls."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from training.engine.data.markers import ChatRefusedError
from training.engine.records import Message

THOUGHTS, THOUGHTS_END = "<think>", "</think>"
_NAMES = ("reasoning_content", "thinking", "reasoning")  # names that reasoning goes by
# Of a string of Python, as LFM2 writes arguments.
_ESCAPES = str.maketrans({"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r"})


def check_said(message: Message, rendered: str) -> None:
    """Check that a rendering holds all that a message says. Raises ChatRefusedError."""
    *thoughts, answer = split_thoughts(message)
    if answer not in rendered:
        raise ChatRefusedError("The chat template leaves out what the assistant says.")
    if not all(part in rendered for part in (*list_reasoning(message), *thoughts)):
        raise ChatRefusedError("The chat template leaves out what the assistant thinks.")
    if not all(is_told(told, rendered) for told in _list_calls(message)):
        raise ChatRefusedError("The chat template leaves out a tool that the assistant calls.")


def is_said(text: str, rendered: str) -> bool:
    """Return whether a rendering holds a text as it is, or as it is in a string of JSON or Python."""
    return any(form in rendered for form in list_forms(text))


def list_forms(text: str) -> tuple[str, ...]:
    """Return a text as it is, and as it is in a string of JSON or Python."""
    return text.strip(), quote(text), json.dumps(text)[1:-1], text.translate(_ESCAPES)


def is_told(value: Any, rendered: str) -> bool:
    """Return whether a rendering holds a value: the text that it is, or else each text and number in it."""
    if isinstance(value, str) and is_said(value, rendered):
        return True
    return all(is_said(one, rendered) for one in _leaves(_parsed(value)))


def is_prefilled(messages: Sequence[Message]) -> bool:
    """Return whether a chat ends with the beginning of the assistant's turn. An empty message does not count."""
    last = messages[-1]
    return last["role"] == "assistant" and not last.get("tool_calls") and bool(last.get("content"))


def is_thinking(message: Message) -> bool:
    """Return whether thoughts begin in the content of a message and do not end."""
    text = str(message.get("content") or "")
    return text.rfind(THOUGHTS) > text.rfind(THOUGHTS_END)


def in_parts(message: Message) -> Message:
    """Return a message with its content as a list of parts."""
    text = message.get("content")
    return message | {"content": [{"type": "text", "text": text}]} if isinstance(text, str) else message


def split_thoughts(message: Message) -> list[str]:
    """Return the content of a message between the tags of thoughts, the answer last."""
    parts = re.split(f"{THOUGHTS}|{THOUGHTS_END}", str(message.get("content") or ""))
    return [part.strip() for part in parts]


def list_reasoning(message: Message) -> list[str]:
    """Return the reasoning that a message holds beside its content, if any."""
    return [str(message[name]).strip() for name in _NAMES if message.get(name)][:1]


def list_last_called(message: Message) -> list[str]:
    """Return what a message's tool calls may end with in a rendering: the last arguments, or the last text in them."""
    values = [value for value in _list_calls(message) if value]
    leaves = [leaf for value in values for leaf in _leaves(_parsed(value))]
    last = [value for value in values[-1:] if isinstance(value, str)] + leaves[-1:]
    return [form for text in last for form in list_forms(text)]


def list_told(chat: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """Yield what a model is told of tools: their names and descriptions, earlier calls, and what these returned."""
    for tool in tools:
        function = tool.get("function", tool)
        yield from (function.get("name"), function.get("description"))
    for message in chat:
        yield from _list_calls(message)
        if message["role"] == "tool":
            yield message.get("content")


def _list_calls(message: Message) -> Iterator[Any]:
    """Yield the names and arguments of a message's tool calls."""
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        yield from (function.get("name"), function.get("arguments"))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)
    elif isinstance(value, str) and value:
        yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield json.dumps(value)


def list_json_arguments(chat: Sequence[Message]) -> Iterator[str]:
    """Yield the arguments of tool calls that are JSON of an object."""
    for message in chat:
        for call in message.get("tool_calls") or ():
            arguments = call.get("function", call).get("arguments")
            if isinstance(arguments, str) and '"' in arguments and isinstance(_parsed(arguments), dict):
                yield arguments


def swap_arguments(chat: Sequence[Message]) -> list[Message]:
    """Return a chat with the arguments of its tool calls as objects in place of JSON, or the reverse."""

    def other(call: dict[str, Any]) -> dict[str, Any]:
        inner = call.get("function", call)
        if "arguments" not in inner:
            return call
        value = inner["arguments"]
        swapped = _parsed(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        changed = inner | {"arguments": swapped}
        return call | {"function": changed} if "function" in call else changed

    return [
        message | {"tool_calls": [other(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in chat
    ]


def _parsed(value: Any) -> Any:
    """Return what JSON stands for, and anything else as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def quote(text: str) -> str:
    """Return text as it is inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
