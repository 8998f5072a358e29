"""Plain prompts and chats in one type: everything as messages, or everything as text.

A row holds `prompt`, and completions in the form of their prompt. A reader of tables takes all rows to be like the
first, so that a file never mixes the two.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from annotate.text.chats import Content

Row = dict[str, Any]
COMPLETIONS = ("chosen", "rejected", "completion_a", "completion_b")
SPEAKERS = {
    "user": "Human",
    "assistant": "Assistant",
    "tool": "Tool",
    "system": "System",
    "developer": "System",
}


def is_chat(content: Content) -> bool:
    """Return whether a prompt, or a completion, is a list of messages."""
    return not isinstance(content, str)


def prompt_as_messages(content: Content) -> list[dict[str, Any]]:
    """Return a prompt as messages: a plain one is what a user says."""
    return [{"role": "user", "content": content}] if isinstance(content, str) else list(content)


def completion_as_messages(content: Content) -> list[dict[str, Any]]:
    """Return a completion as messages of the assistant."""
    return [{"role": "assistant", "content": content}] if isinstance(content, str) else list(content)


def prompt_as_text(content: Content) -> str:
    """Return a prompt as text. A single message of a user is its text, and a longer chat a transcript.

    The transcript is that of HH: "\\n\\nHuman: …\\n\\nAssistant:", so that what follows it is the completion.
    """
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0].get("role") == "user":
        return message_text(content[0])
    turns = "".join(f"\n\n{_speaker(message)}: {message_text(message)}" for message in content)
    return f"{turns}\n\nAssistant:"


def completion_as_text(content: Content) -> str:
    """Return a completion as text. Of several messages, all but the first are a transcript."""
    if isinstance(content, str):
        return content
    first, rest = content[:1], content[1:]
    return "".join(map(message_text, first)) + "".join(
        f"\n\n{_speaker(message)}: {message_text(message)}" for message in rest
    )


def message_text(message: Mapping[str, Any]) -> str:
    """Return all that a message says as text: its texts, then calls of tools and other parts as JSON."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = [_part_text(part) for part in parts if part is not None]
    calls = message.get("tool_calls")
    return "\n\n".join([*texts, *([_json(calls)] if calls else [])])


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    return text if isinstance(text, str) else _json(part)


def _speaker(message: Mapping[str, Any]) -> str:
    role = str(message.get("role", ""))
    return SPEAKERS.get(role, role.capitalize())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- Rows --------------------------------------------------------------------------------------------------------


def shaped(rows: Iterable[Row], texts: str) -> Iterator[Row]:
    """Yield rows with their texts in one type: `messages` or `text`; otherwise as they are."""
    if texts == "messages":
        return _converted(rows, prompt_as_messages, completion_as_messages)
    if texts == "text":
        return _converted(rows, prompt_as_text, completion_as_text)
    return iter(rows)


def _converted(
    rows: Iterable[Row], prompt: Callable[[Content], Content], completion: Callable[[Content], Content]
) -> Iterator[Row]:
    for row in rows:
        changed = {name: completion(row[name]) for name in COMPLETIONS if name in row}
        yield row | {"prompt": prompt(row["prompt"])} | changed
