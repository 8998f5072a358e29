"""Requests to an endpoint: one completion each, retried while the server is busy, within a deadline."""

import http.client
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from primitives.text import make_storable, printable
from training.endpoints.addresses import Place, find_place

REQUEST_SECONDS = 300.0  # of one request
LONGEST_ANSWER = 8 << 20  # bytes
BACKOFF, LONGEST_PAUSE = 0.5, 60.0  # seconds
BUSY = (408, 409, 425, 429)
FINISH_REASONS = {"stop": "stop", "length": "length"}


class EndpointError(RefusalError):
    """A failure of the endpoint that holds for every prompt: its key, its model, its address."""


class PromptRefusedError(RefusalError):
    """A refusal of one prompt. Others may be written for."""


class StoppedError(Exception):
    """The end of a request that is not wanted any more."""


@dataclass(frozen=True)
class Server:
    """An endpoint as a request needs to know it, read from its row once."""

    url: str
    model: str

    def write(
        self,
        prompt: Any,
        sampling: Mapping[str, Any],
        *,
        seconds: float,
        stop: threading.Event,
        tools: Any = None,
    ) -> dict[str, Any]:
        """Return a completion: text, finish_reason, and the model that the server names.

        `sampling` has max_new_tokens, temperature, top_p and seed; what is None is left to the server. Raises
        EndpointError, PromptRefusedError, or StoppedError.
        """
        place, deadline = find_place(self.url), time.monotonic() + seconds
        body, pause = _body(self.model, prompt, sampling, tools), BACKOFF
        path = f"{place.path}/{'completions' if isinstance(prompt, str) else 'chat/completions'}"
        while True:
            status, answer, wait = _post(place, path, body, min(REQUEST_SECONDS, deadline - time.monotonic()))
            if status == 200:
                return _read(answer)
            if status == 400 and "max_tokens" in body and b"max_completion_tokens" in answer:
                body["max_completion_tokens"] = body.pop("max_tokens")  # as newer models call it
                continue
            if status and status < 500 and status not in BUSY:
                raise _refusal(status, answer)
            delay = min(wait if wait is not None else pause * (1 + random.random()), LONGEST_PAUSE)
            if time.monotonic() + delay >= deadline:
                raise EndpointError(_busy(status, answer))
            if stop.wait(delay):
                raise StoppedError
            pause = min(2 * pause, LONGEST_PAUSE)


def _body(model: str, prompt: Any, sampling: Mapping[str, Any], tools: Any) -> dict[str, Any]:
    given = {
        "max_tokens": sampling.get("max_new_tokens"),
        "temperature": sampling.get("temperature"),
        "top_p": sampling.get("top_p"),
        "seed": sampling.get("seed"),
        "tools": tools or None,
    }
    what = {"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}
    return {"model": model, **what, **{name: value for name, value in given.items() if value is not None}}


def _post(
    place: Place, path: str, body: Mapping[str, Any], seconds: float
) -> tuple[int, bytes, float | None]:
    """Return status, answer, and the seconds to wait that the server asks for. The status is 0 without an answer."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "Whetstone"}
    if place.key:
        headers["Authorization"] = f"Bearer {place.key}"
    with closing(_Connection(place, max(seconds, 1.0))) as connection:
        try:
            connection.request("POST", path, json.dumps(body).encode(), headers)
            with connection.getresponse() as answer:
                content = answer.read(LONGEST_ANSWER + 1)
                asked = answer.headers.get("Retry-After", "")
        except (OSError, http.client.HTTPException) as error:
            return 0, type(error).__name__.encode(), None
    if len(content) > LONGEST_ANSWER:
        raise EndpointError(_("The endpoint’s answer is too long."))
    return answer.status, content, float(asked) if asked.isdecimal() else None


class _Connection(http.client.HTTPConnection):
    """A connection to the address that was checked, under the name of its host. It follows no redirect."""

    def __init__(self, place: Place, seconds: float) -> None:
        super().__init__(place.host, place.port, timeout=seconds)
        self.place, self.address = place, place.connect_to()
        if place.scheme == "https":
            self.default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.place.scheme == "https":
            secure = ssl.create_default_context()
            self.sock = secure.wrap_socket(self.sock, server_hostname=self.host)


def _read(answer: bytes) -> dict[str, Any]:
    """Return what a successful answer says. Raises EndpointError if it is not of OpenAI's interface."""
    try:
        data = json.loads(answer)
        choice = data["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        reason = choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise EndpointError(_("The endpoint’s answer is not that of OpenAI’s interface.")) from error
    if not isinstance(text, str | None):
        raise EndpointError(_("The endpoint’s answer is not that of OpenAI’s interface."))
    return {
        "text": make_storable(text or ""),
        "finish_reason": FINISH_REASONS.get(reason, "unknown") if isinstance(reason, str) else "unknown",
        "model": make_storable(str(data.get("model") or ""))[:200],
    }


def _refusal(status: int, answer: bytes) -> RefusalError:
    if status in (401, 403):
        return EndpointError(
            _("The endpoint does not take this site’s key (status %(status)s).") % {"status": status}
        )
    if status in (400, 413, 422):
        sentence = _("The endpoint refused the prompt: %(why)s")
        return PromptRefusedError(sentence % {"why": _reason(answer)})
    sentence = _("The endpoint answered with status %(status)s: %(why)s")
    return EndpointError(sentence % {"status": status, "why": _reason(answer)})


def _busy(status: int, answer: bytes) -> str:
    if not status:
        return _("The endpoint could not be reached (%(why)s).") % {"why": answer.decode()}
    sentence = _("The endpoint stayed busy until the deadline (status %(status)s): %(why)s")
    return sentence % {"status": status, "why": _reason(answer)}


def _reason(answer: bytes) -> str:
    """Return the message of an error, or the beginning of whatever came."""
    try:
        error = json.loads(answer)["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError, RecursionError):
        said = answer[:400].decode(errors="replace")
    return printable(str(said), 300)
