"""The messages of a chat prompt, checked: what chat templates can render, and pages show whole."""

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.imports.reader import RowError
from annotate.text.json_values import DEPTH, JSONError, clean_json
from primitives.text import is_storable, printable

ROLES = ("system", "developer", "user", "assistant", "tool")
WORDS = ("name", "tool_call_id", "reasoning_content")  # text beside the content
KEYS = ("role", "content", *WORDS, "tool_calls")
LIMIT = 64 * 1024  # bytes of calls in one message, as JSON


def check_message(message: object, where: str) -> dict[str, Any]:
    """Return a message that can be used: role and content, and what else templates know. Raises RowError.

    `where` names the message in the error. A key whose value is null is left out, except for content.
    """
    if not isinstance(message, dict) or "role" not in message:
        raise RowError(_("%(where)s must be an object with role and content.") % {"where": where})
    if unknown := sorted(message.keys() - set(KEYS)):
        raise RowError(
            _("%(where)s has the key “%(key)s”; the keys of a message are %(keys)s.")
            % {"where": where, "key": printable(unknown[0]), "keys": ", ".join(KEYS)}
        )
    if message["role"] not in ROLES:
        raise RowError(
            _("%(where)s must have one of the roles %(roles)s.") % {"where": where, "roles": ", ".join(ROLES)}
        )
    calls = _calls(message, where)
    return {
        "role": message["role"],
        "content": _content(message, where, has_calls=bool(calls.get("tool_calls"))),
        **{key: _text(message[key], where, key) for key in WORDS if message.get(key) is not None},
        **calls,
    }


def text_of(message: Mapping[str, Any]) -> str:
    """Return what a message says, to be measured: its content where that is text, and all else as JSON."""
    rest = {key: value for key, value in message.items() if key != "role"}
    text = rest.pop("content") if isinstance(message["content"], str) else ""
    return text + json.dumps(rest, ensure_ascii=False) if rest else text


def _content(message: Mapping[str, Any], where: str, *, has_calls: bool) -> Any:
    """Return the content: text, null beside calls, or a list of parts."""
    content = message.get("content")
    if content is None and has_calls:
        return None
    if isinstance(content, list) and content:
        return [_part(part, where) for part in content]
    text = _text(content, where)
    # An empty system message keeps a template from writing its own; a tool may return nothing.
    if not text.strip() and not has_calls and message["role"] not in ("system", "developer", "tool"):
        raise RowError(_("%(name)s is empty.") % {"name": where})
    return text


def _part(part: Any, where: str) -> dict[str, Any]:
    """Return a part of a message: text, or an image that the file itself holds."""
    if isinstance(part, dict) and part.get("type") == "text" and part.keys() == {"type", "text"}:
        return {"type": "text", "text": _text(part["text"], where)}
    image = part.get("image_url") if isinstance(part, dict) and part.get("type") == "image_url" else None
    address = image.get("url") if isinstance(image, dict) else image
    if not isinstance(address, str) or not address.startswith("data:image/"):
        raise RowError(
            _("%(where)s has a part that is not text, and not an image that the file itself holds.")
            % {"where": where}
        )
    try:
        return dict(clean_json(part, depth=4))
    except JSONError as error:
        raise RowError(_("%(where)s: image_url: %(error)s") % {"where": where, "error": error}) from error


def _calls(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the calls of tools in a message: objects with the name of a function."""
    calls = message.get("tool_calls")
    if calls is None:
        return {}
    if not isinstance(calls, list) or not all(_has_name(call) for call in calls):
        raise RowError(
            _("%(where)s: tool_calls must be a list of objects with a function’s name.") % {"where": where}
        )
    try:
        return {"tool_calls": clean_json(calls, depth=DEPTH, size=LIMIT)}
    except JSONError as error:
        raise RowError(_("%(where)s: tool_calls: %(error)s") % {"where": where, "error": error}) from error


def _has_name(call: object) -> bool:
    function = call.get("function", call) if isinstance(call, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _text(value: object, where: str, key: str = "content") -> str:
    called = where if key == "content" else f"{where}: {key}"
    if not isinstance(value, str):
        raise RowError(_("%(name)s must be text.") % {"name": called})
    if not is_storable(value):
        raise RowError(_("%(name)s holds a NUL or half a character.") % {"name": called})
    return value
