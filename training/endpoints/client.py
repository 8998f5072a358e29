"""Requests to an endpoint: one completion each, retried while the server is busy, within a deadline."""

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from training.endpoints.addresses import Place, find_place
from training.endpoints.answers import explain, make_form_error, make_length_error, read_completion
from training.endpoints.connections import Connection
from training.endpoints.errors import EndpointError, PromptRefusedError
from training.endpoints.progress import Progress, Tell
from training.endpoints.streaming import is_stream, read_stream

REQUEST_SECONDS = 300.0  # of one request whose answer comes at once
LONGEST_ANSWER = 8 << 20  # bytes
BACKOFF, LONGEST_PAUSE = 0.5, 60.0  # seconds
BUSY = (408, 409, 425, 429)


@dataclass(frozen=True)
class Reply:
    """The reply to one request. The status is 0 where there was none, and `content` then names the error.

    `wait` is the seconds to wait that the server asks for. `completion` is there if it was streamed. `is_late` means
    that the request was sent, and its answer did not come, or not whole, in time.
    """

    status: int
    content: bytes = b""
    wait: float | None = None
    completion: dict[str, Any] | None = None
    is_late: bool = False


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
        stop: threading.Event | None = None,
        tools: Any = None,
        tell: Tell | None = None,
    ) -> dict[str, Any]:
        """Return a completion: text, finish_reason, and the model that the server names.

        `sampling` has max_new_tokens, temperature, top_p and seed; what is None is left to the server. `stop` ends the
        pauses between retries. With `tell` the server is asked for its tokens as they come: `tell` hears the text so
        far about twice a second, and answers whether it is still wanted. Raises EndpointError, PromptRefusedError, or
        StoppedError.
        """
        place = find_place(self.url)
        progress = Progress(seconds, stop or threading.Event(), tell or (lambda _text: True))
        body, pause = _body(self.model, prompt, sampling, tools), BACKOFF
        busy: Reply | None = None
        if tell is not None:
            body["stream"] = True
        path = f"{place.path}/{'completions' if isinstance(prompt, str) else 'chat/completions'}"
        while True:
            reply = _post(place, path, body, progress)
            if reply.completion is not None:
                return reply.completion
            if reply.status == 200:
                return read_completion(reply.content)
            if _simplify(body, reply):
                continue
            if reply.status and reply.status < 500 and reply.status not in BUSY:
                raise _refusal(reply)
            busy = reply if reply.status else busy
            asked = reply.wait if reply.wait is not None else pause * (1 + random.random())
            delay = min(max(asked, BACKOFF), LONGEST_PAUSE)
            if delay >= progress.seconds_left:
                raise EndpointError(_explain_failure(reply, busy))
            progress.wait(delay)
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


def _simplify(body: dict[str, Any], reply: Reply) -> bool:
    """Change what this server refused for its name alone. Return whether to ask again."""
    if reply.status == 400 and "max_tokens" in body and b"max_completion_tokens" in reply.content:
        body["max_completion_tokens"] = body.pop("max_tokens")  # as newer models call it
        return True
    return reply.status in (400, 422) and b"stream" in reply.content and body.pop("stream", False)


def _post(place: Place, path: str, body: Mapping[str, Any], progress: Progress) -> Reply:
    streams = bool(body.get("stream"))
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json" if streams else "application/json",
        "User-Agent": "Whetstone",
    }
    if place.key:
        headers["Authorization"] = f"Bearer {place.key}"
    until = progress.until if streams else min(progress.until, time.monotonic() + REQUEST_SECONDS)
    is_sent = False
    with closing(Connection(place, progress, until)) as connection:
        try:
            connection.request("POST", path, json.dumps(body).encode(), headers)
            is_sent = True
            with connection.getresponse() as answer:
                if answer.status == 200 and is_stream(answer):
                    return Reply(200, completion=read_stream(answer, progress))
                content = answer.read(LONGEST_ANSWER + 1)
                asked = answer.headers.get("Retry-After", "")
        except (OSError, http.client.HTTPException) as error:
            is_late = is_sent and isinstance(error, TimeoutError)
            return Reply(0, type(error).__name__.encode(), is_late=is_late)
        except (ValueError, OverflowError) as error:  # whose words may quote a header, and so the key
            if is_sent:
                raise make_form_error() from None
            raise EndpointError(_explain_failure(Reply(0, type(error).__name__.encode()))) from None
    if len(content) > LONGEST_ANSWER:
        raise make_length_error()
    return Reply(answer.status, content, float(asked) if asked.isdecimal() else None)


def _refusal(reply: Reply) -> RefusalError:
    if reply.status in (401, 403):
        sentence = _("The endpoint does not take this site’s key (status %(status)s).")
        return EndpointError(sentence % {"status": reply.status})
    if reply.status in (400, 413, 422):
        sentence = _("The endpoint refused the prompt: %(why)s")
        return PromptRefusedError(sentence % {"why": explain(reply.content)})
    sentence = _("The endpoint answered with status %(status)s: %(why)s")
    return EndpointError(sentence % {"status": reply.status, "why": explain(reply.content)})


def _explain_failure(reply: Reply, busy: Reply | None = None) -> str:
    """Say why there is no completion at the deadline. `busy` is the latest reply that had a status."""
    if reply.is_late and busy is not None:
        reply = busy
    if reply.is_late:
        return _("The answer took too long. Ask for fewer tokens.")
    if not reply.status:
        return _("The endpoint could not be reached (%(why)s).") % {"why": reply.content.decode()}
    sentence = _("The endpoint stayed busy until the deadline (status %(status)s): %(why)s")
    return sentence % {"status": reply.status, "why": explain(reply.content)}
