"""The answers of endpoints in OpenAI's interface: completions, parts of them, and errors."""

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.imports.contents import check_completion
from annotate.imports.reader import RowError
from annotate.text.chats import as_completion
from primitives.text import make_storable, printable
from training.endpoints.errors import EndpointError

FINISH_REASONS = {"stop": "stop", "length": "length"}
LONGEST_MODEL = 200  # characters of the name that the server gives to its model


def read_completion(answer: bytes) -> dict[str, Any]:
    """Return what a successful answer says. Raises EndpointError if it is not of OpenAI's interface."""
    try:
        data = json.loads(answer)
        choice = data["choices"][0]
        message = choice.get("message")
        text = choice["text"] if message is None else message.get("content")
        calls = message.get("tool_calls") if message else None
        return describe(read_text(text), choice.get("finish_reason"), data.get("model"), calls)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise make_form_error() from error


def read_part(choice: Mapping[str, Any]) -> str:
    """Return the text of a choice in one event of a stream. Raises EndpointError if it is not of OpenAI's interface."""
    delta = choice.get("delta")
    return read_text(delta.get("content") if isinstance(delta, dict) else choice.get("text"))


def read_text(text: object) -> str:
    """Return a text, "" where there is none. Raises EndpointError if it is something else."""
    if not isinstance(text, str | None):
        raise make_form_error()
    return text or ""


def describe(text: str, reason: object, model: object, calls: object = None) -> dict[str, Any]:
    """Return a completion as callers have it: text, finish_reason, and the model that the server names.

    One that calls tools has its `messages` too. Raises EndpointError if a call is not one.
    """
    said: dict[str, Any] = {"text": make_storable(text)}
    if calls:
        try:
            said["messages"] = check_completion(
                [{"role": "assistant", "content": said["text"] or None, "tool_calls": calls}], "completion"
            )
        except RowError as error:
            raise make_form_error() from error
        said["text"] = as_completion(said["messages"])
    return said | {
        "finish_reason": FINISH_REASONS.get(reason, "unknown") if isinstance(reason, str) else "unknown",
        "model": make_storable(str(model or ""))[:LONGEST_MODEL],
    }


def explain(answer: bytes) -> str:
    """Return the message of an error, or the beginning of whatever came."""
    try:
        error = json.loads(answer)["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError, RecursionError):
        said = answer[:400].decode(errors="replace")
    return printable(str(said), 300)


def make_form_error() -> EndpointError:
    return EndpointError(_("The endpoint’s answer is not that of OpenAI’s interface."))


def make_length_error() -> EndpointError:
    return EndpointError(_("The endpoint’s answer is too long."))
