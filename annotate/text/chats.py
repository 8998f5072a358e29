"""The messages of a chat, read into parts with nothing left out: texts, calls of tools, their results, and the rest.

A message has a role and content, as OpenAI and TRL write it. Whatever else it holds becomes a part with a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import override

from annotate.text.images import fold

Content = str | list[dict[str, Any]]
EMPTY = "\0"  # the key of an empty text


class Part(NamedTuple):
    """A part of a message. Only the texts of its content have no name. `image` is the data URI of a picture in it."""

    text: str
    name: str = ""
    image: str = ""


class Turn(NamedTuple):
    """One message of a chat. A plain prompt is one turn without a role."""

    role: str
    parts: list[Part]
    speaker: str = ""

    @property
    def text(self) -> str:
        return "\n\n".join(part.text for part in self.parts if not part.name)


def read_turns(content: Content) -> list[Turn]:
    """Return the turns of a prompt."""
    if isinstance(content, str):
        return [Turn("", [Part(content)])]
    return [_read_message(message) for message in content]


def as_text(content: Content) -> str:
    """Return all of a prompt as plain text."""
    return "\n\n".join(_write_turn(turn) for turn in read_turns(content))


def _write_turn(turn: Turn) -> str:
    opening = f"{turn.role} ({turn.speaker})" if turn.speaker else turn.role
    parts = [f"[{part.name}]\n{part.text}" if part.name else part.text for part in turn.parts]
    return "\n\n".join(
        [f"{opening}:\n{parts[0]}" if opening and parts else opening + "".join(parts[:1]), *parts[1:]]
    )


def holds_images(content: Content) -> bool:
    """Return whether a message has a part that is an image."""
    if isinstance(content, str):
        return False
    parts = (
        part for message in content if isinstance(message.get("content"), list) for part in message["content"]
    )
    return any(part.get("type") == "image_url" for part in parts)


def as_completion(content: Content) -> str:
    """Return all of a completion as plain text, the same in every language: what is stored, searched and compared.

    A digest stands for the base64 of each image.
    """
    if isinstance(content, str):
        return content
    with override(None):
        first, *rest = read_turns(content)
        return fold("\n\n".join(filter(None, map(_write_turn, [Turn("", first.parts), *rest]))))[0]


def content_key(content: Content) -> str:
    """Return text by which contents are told apart: the text itself, or the messages as JSON behind a NUL.

    No stored text holds a NUL. The key is never empty: that of an empty text is a NUL alone.
    """
    if isinstance(content, str):
        return content or EMPTY
    return "\0" + json.dumps(content, sort_keys=True, ensure_ascii=False)


def last_question(content: Content) -> str:
    """Return the text of the user's last message; of a chat without one, that of its last message."""
    turns = read_turns(content)
    asked = [turn for turn in turns if turn.role == "user"] or turns[-1:]
    return asked[-1].text if asked else ""


# --- Reading -----------------------------------------------------------------------------------------------------


def _read_message(message: Any) -> Turn:
    if not isinstance(message, dict):
        return Turn("", [Part(_write(message), _("Not a message"))])
    role, speaker = _write(message.get("role", "")), message.get("name")
    named = speaker if isinstance(speaker, str) else ""
    parts = list(_read_content(message.get("content")))
    shown = {"role", "content", *(["name"] if named else [])}
    if role == "tool":
        of_call = message.get("tool_call_id")
        title = _with_id(_("Result of %(name)s") % {"name": named or _("a tool")}, of_call)
        parts = [part._replace(name=part.name or title) for part in parts]
        shown |= {"tool_call_id"} if isinstance(of_call, str) and parts else set()
    for key, value in message.items():
        if key == "tool_calls" and isinstance(value, list):
            parts += [_read_call(call) for call in value]
        elif key not in shown:
            parts.append(Part(_write(value), str(key)))
    return Turn(role, parts, named)


def _read_content(content: Any) -> Iterator[Part]:
    """Yield the parts of a message's content: text, nothing, or a list of parts of several types."""
    if content is None:
        return
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield Part(part)
        elif isinstance(part, dict) and part.keys() == {"type", "text"} and isinstance(part["text"], str):
            yield Part(part["text"])
        else:
            kind = part.get("type") if isinstance(part, dict) else None
            yield Part(_write(part), str(kind or _("Content")), _embedded_image(part))


def _embedded_image(part: Any) -> str:
    """Return the data URI of the image that a part holds, as the APIs of OpenAI and Anthropic write it, or no text."""
    if not isinstance(part, dict):
        return ""
    image = part.get("image_url") or part.get("image") or part.get("source")
    if isinstance(image, dict) and image.get("type") == "base64":
        image = f"data:{image.get('media_type')};base64,{image.get('data')}"
    elif isinstance(image, dict):
        image = image.get("url")
    return image if isinstance(image, str) and image.startswith("data:image/") else ""


def _read_call(call: Any) -> Part:
    """Return the call of a tool as a box: its name, its arguments as they are, and what else it holds."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or "name" not in function:
        return Part(_write(call), _("Call of a tool"))
    is_named = isinstance(call.get("id"), str)
    rest = {key: value for key, value in call.items() if key not in ("function", "id" if is_named else "")}
    rest |= {key: value for key, value in function.items() if key not in ("name", "arguments")}
    lines = [_write(function["arguments"])] if "arguments" in function else []
    lines += [_write(rest)] if rest.keys() - {"type"} or rest.get("type", "function") != "function" else []
    title = _with_id(_("Call of %(name)s") % {"name": _write(function["name"])}, call.get("id"))
    return Part("\n".join(lines), title)


def _with_id(title: str, call: Any) -> str:
    """Return a title with the id of its call, by which calls and results find each other."""
    return f"{title} ({call})" if isinstance(call, str) else title


def _write(value: Any) -> str:
    """Return a value as text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
