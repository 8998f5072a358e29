"""A completion that an endpoint streams, as server-sent events. The server is not trusted to end, nor to be brief.

Each event holds a part of the text, and the last one is `[DONE]`. What came before a failure stays told.
"""

import http.client
import json
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from training.endpoints.answers import describe, explain, make_form_error, make_length_error, read_part
from training.endpoints.calls import Calls
from training.endpoints.errors import EndpointError
from training.endpoints.progress import Progress

KIND = "text/event-stream"
LAST = "[DONE]"
LONGEST_LINE = 1 << 20  # bytes
LAST_SECONDS = 5.0  # for what follows the reason why the text ended
LONGEST_STREAM = 32 << 20  # bytes: each token has some hundred around it


def is_stream(answer: http.client.HTTPResponse) -> bool:
    """Return whether an answer is streamed. A server may ignore that it was asked to."""
    return answer.headers.get_content_type() == KIND


def read_stream(answer: http.client.HTTPResponse, progress: Progress) -> dict[str, Any]:
    """Return the completion, having told all of it that came.

    Raises EndpointError if it ends before its end, or if the events are not those of OpenAI's interface. Raises OSError
    or HTTPException if the connection fails before the first part of the text.
    """
    try:
        return _read(answer, progress)
    except EndpointError:
        progress.tell_now()
        raise
    except (OSError, http.client.HTTPException) as error:
        if not progress.size:
            raise
        progress.tell_now()
        if isinstance(error, TimeoutError):
            raise EndpointError(_("The answer took too long. Ask for fewer tokens.")) from error
        raise _make_break_error() from error
    except (ValueError, OverflowError) as error:  # of http.client, where the size of a chunk is impossible
        progress.tell_now()
        raise make_form_error() from error


def _read(answer: http.client.HTTPResponse, progress: Progress) -> dict[str, Any]:
    reason, model, is_done, has_choice = None, None, False, False
    calls = Calls(progress)
    try:
        for data in _events(answer):
            if data.strip() == LAST:
                is_done = True
                break
            event = _parse(data)
            model = model or event.get("model")
            for choice in _choices(event):
                has_choice = True
                progress.add(read_part(choice))
                calls.add(choice.get("delta"))
                reason = choice.get("finish_reason") or reason
            if reason is not None:
                progress.shorten(LAST_SECONDS)
    except TimeoutError:
        if reason is None:
            raise
    if not has_choice or (reason is None and not is_done):
        raise _make_break_error() if progress.size else make_form_error()
    return describe(progress.text, reason, model, calls.read())


def _events(answer: http.client.HTTPResponse) -> Iterator[str]:
    """Yield the data of each event. Comments and other fields are left out. Raises EndpointError."""
    data: list[str] = []
    room = LONGEST_STREAM
    while line := answer.readline(LONGEST_LINE + 1):
        room -= len(line)
        if len(line) > LONGEST_LINE or room < 0:
            raise make_length_error()
        try:
            field, _colon, value = line.rstrip(b"\r\n").decode().removeprefix("\ufeff").partition(":")
        except UnicodeDecodeError as error:
            raise make_form_error() from error
        if field == "data":
            data.append(value.removeprefix(" "))
        elif not field and not value and data:
            yield "\n".join(data)
            data = []
    if data:  # the last event, which no empty line follows
        yield "\n".join(data)


def _parse(data: str) -> dict[str, Any]:
    """Return an event. Raises EndpointError if it is an error, or not of OpenAI's interface."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise make_form_error() from error
    if not isinstance(event, dict):
        raise make_form_error()
    if event.get("error"):
        sentence = _("The endpoint ended the answer with an error: %(why)s")
        raise EndpointError(sentence % {"why": explain(data.encode())})
    return event


def _choices(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of the first completion in an event: mostly one. Events of usage alone have none."""
    choices = event.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise make_form_error()
    return [one for one in choices if (one.get("index") or 0) == 0]


def _make_break_error() -> EndpointError:
    return EndpointError(_("The endpoint broke off in the middle of its answer."))
