"""The content of a chat's messages: text, thoughts and tool calls."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from training.engine.data.markers import ChatRefusedError
from training.engine.records import Message

THOUGHTS, THOUGHTS_END = "<think>", "</think>"
_NAMES = ("reasoning_content", "thinking", "reasoning")  # names that reasoning goes by


def check_said(message: Message, rendered: str) -> None:
    """Check that a rendering holds all that a message says. Raises ChatRefusedError."""
    *thoughts, answer = split_thoughts(message)
    if answer not in rendered:
        raise ChatRefusedError("The chat template leaves out what the assistant says.")
    if not all(part in rendered for part in (*list_reasoning(message), *thoughts)):
        raise ChatRefusedError("The chat template leaves out what the assistant thinks.")
    if not all(is_said(said, rendered) for said in list_called(message)):
        raise ChatRefusedError("The chat template leaves out a tool that the assistant calls.")


def is_said(text: str, rendered: str) -> bool:
    """Return whether a rendering holds a text as it is, or as it is in JSON."""
    return any(form in rendered for form in (text.strip(), quote(text), json.dumps(text)[1:-1]))


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


def list_called(message: Message) -> Iterator[str]:
    """Yield the names and arguments of a message's tool calls."""
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        yield from _leaves(function.get("name", ""))
        arguments = function.get("arguments")
        yield from _leaves(_parsed(arguments) if isinstance(arguments, str) else arguments)


def list_told(chat: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what a model is told of tools: their names and descriptions, earlier calls, and what these returned."""
    for tool in tools:
        function = tool.get("function", tool)
        yield from _leaves([function.get("name"), function.get("description")])
    for message in chat:
        yield from list_called(message)
        if message["role"] == "tool":
            content = message.get("content")
            yield from _leaves(_parsed(content) if isinstance(content, str) else content)


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


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def quote(text: str) -> str:
    """Return text as it is inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
