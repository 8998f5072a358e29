"""Endpoints that misbehave: no request floods, no key is told, and each failure has its own reason."""

import itertools
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from annotate.errors import RefusalError
from tests.training.using.openai_server import completion, event, part, stream
from training.endpoints import client, streaming
from training.endpoints.addresses import find_place
from training.endpoints.client import Server
from training.endpoints.errors import EndpointError, StoppedError

CHAT = [{"role": "user", "content": "Why?"}]
WAIT = 20.0  # seconds that no test should need


def write(server: Any, reply: Any, seconds: float = WAIT, **options: Any) -> dict[str, Any]:
    """Return the completion of a server that always replies so."""
    server.rules[:] = [lambda _path, _body: reply]
    return Server(f"http://{server.host}/v1", "acme-1").write(CHAT, {}, seconds=seconds, **options)


def write_stream(server: Any, *parts: bytes, **options: Any) -> dict[str, Any]:
    return write(server, stream(parts), tell=lambda _text: True, **options)


def test_a_server_that_asks_for_no_pause_gets_one(server: Any) -> None:
    asked: list[float] = []

    def rule(_path: str, _body: dict[str, Any]) -> Any:
        asked.append(time.monotonic())
        return (429, b"", {"Retry-After": "0"}) if len(asked) < 3 else None

    server.rules.append(rule)
    Server(f"http://{server.host}/v1", "acme-1").write(CHAT, {"seed": 3}, seconds=WAIT)
    assert all(later - earlier > 0.45 for earlier, later in itertools.pairwise(asked))


def test_a_pause_past_the_deadline_is_not_begun(server: Any) -> None:
    with pytest.raises(EndpointError, match="stayed busy until the deadline"):
        write(server, (429, b"", {"Retry-After": "40"}))
    assert len(server.asked) == 1


def test_no_server_asks_for_a_pause_without_an_end(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.5)
    replies = [(429, b"", {"Retry-After": "4000"})]
    server.rules.append(lambda _path, _body: replies.pop() if replies else None)
    found = Server(f"http://{server.host}/v1", "acme-1").write(CHAT, {"seed": 3}, seconds=WAIT)
    assert found["text"] == "4 letters, seed 3"


def test_of_several_completions_the_first_is_read(server: Any) -> None:
    choices = [{"index": at, "delta": {"content": f"{at}"}, "finish_reason": "stop"} for at in (1, 0)]
    assert write_stream(server, event({"choices": choices}), event(b"[DONE]"))["text"] == "0"


def test_an_answer_that_is_too_long_is_told_as_that(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_ANSWER", 1_000)
    with pytest.raises(EndpointError, match="too long"):
        write(server, (200, completion("so " * 1_000), {}))


def test_a_stop_is_heard_before_the_first_pause(server: Any) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        write(server, (429, b"", {"Retry-After": "0"}), seconds=5, stop=stop)
    assert len(server.asked) == 1


def test_space_around_a_key_is_not_part_of_it(
    server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT_KEY", " sk-SECRET\r\n")
    settings.ENDPOINTS = [f"{server.host}=FAULT_KEY"]
    write_stream(server, part("So", "stop"))
    assert server.asked[0][2] == "Bearer sk-SECRET"


@pytest.mark.parametrize("key", ["sk-SEC\nRET", "sk-SECRÉT", "sk-SEC\x7fRET", "sk-SEC RET"])
def test_a_key_that_cannot_be_sent_is_not_quoted(
    server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAULT_KEY", key)
    settings.ENDPOINTS = [f"{server.host}=FAULT_KEY"]
    with pytest.raises(RefusalError, match="key of “127") as refused:
        find_place(f"http://{server.host}/v1")
    assert refused.value.field == "url"
    logging.getLogger("test").error("failed", exc_info=refused.value)
    assert "SEC" not in caplog.text


CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize("size", [b"F" * 20, b"-5"])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_an_impossible_chunk_is_a_failure(server: Any, size: bytes, is_streamed: bool) -> None:
    told: list[str] = []
    first = part("So")
    kind = "text/event-stream" if is_streamed else "application/json"
    parts = [b"%x\r\n%s\r\n" % (len(first), first), size + b"\r\n{}\r\n"]
    tell = {"tell": lambda text: told.append(text) or True} if is_streamed else {}
    with pytest.raises(EndpointError):
        write(server, (200, parts, {"Content-Type": kind, **CHUNKED}), seconds=3, **tell)
    assert not is_streamed or told[-1] == "So"


def call(**given: Any) -> bytes:
    """Return the event with a part of a call of a tool."""
    function = {name: given.pop(name) for name in ("name", "arguments") if name in given}
    return event({"choices": [{"delta": {"tool_calls": [{**given, "function": function}]}}]})


@pytest.mark.parametrize("index", [{}, {"index": None}])
@pytest.mark.parametrize(
    ("parts", "ids", "names"),
    [
        ([{"id": "1", "name": "alpha"}, {"id": "2", "name": "beta"}], ["1", "2"], ["alpha", "beta"]),
        ([{"id": "1", "name": "alpha"}, {"id": "2", "name": "alpha"}], ["1", "2"], ["alpha", "alpha"]),
        ([{"name": "alpha"}, {"name": "beta"}], [None, None], ["alpha", "beta"]),
        ([{"name": "alpha"}, {"name": "alpha"}], [None, None], ["alpha", "alpha"]),
        ([{"id": "1", "name": "alpha"}, {"id": "1", "name": "alpha"}], ["1"], ["alpha"]),
    ],
    ids=["ids", "one name", "names", "no ids", "repeated"],
)
def test_calls_without_an_index_are_told_apart(
    server: Any, index: dict[str, None], parts: list[dict[str, str]], ids: list[str], names: list[str]
) -> None:
    events = [some for one in parts for some in (call(**index, **one), call(**index, arguments="{}"))]
    if len(ids) < len(parts):
        events = [call(**index, **one, arguments=some) for one, some in zip(parts, "{}", strict=True)]
    found = write_stream(server, *events, event(b"[DONE]"))["messages"][0]["tool_calls"]
    assert [one.get("id") for one in found] == ids
    assert [one["function"] for one in found] == [{"name": name, "arguments": "{}"} for name in names]


def test_a_choice_without_a_number_is_the_first(server: Any) -> None:
    some = event({"choices": [{"index": None, "delta": {"content": "hi"}}]})
    found = write_stream(server, some, event(b"[DONE]"))
    assert found["text"] == "hi"


@pytest.mark.parametrize("choices", [[{"index": 1, "delta": {"content": "hi"}}], []])
def test_an_answer_without_a_choice_is_not_empty_text(server: Any, choices: list[Any]) -> None:
    with pytest.raises(EndpointError, match="not that of OpenAI"):
        write_stream(server, event({"choices": choices}), event(b"[DONE]"))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return an event for which a server waits in the middle of an answer. It is set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def hold(gate: threading.Event, *first: bytes) -> Iterator[bytes]:
    yield from first
    gate.wait(WAIT)


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_silence_after_the_headers_took_too_long(server: Any, gate: threading.Event, kind: str) -> None:
    reply = (200, hold(gate), {"Content-Type": kind})
    with pytest.raises(EndpointError, match="took too long"):
        write(server, reply, seconds=1, tell=lambda _text: True)


def test_busy_until_the_deadline_is_told_as_busy(
    server: Any, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BACKOFF", 0.01)
    replies = [(503, b"overloaded", {})]

    def rule(_path: str, _body: dict[str, Any]) -> Any:
        if replies:
            return replies.pop()
        gate.wait(WAIT)
        return 503, b"overloaded", {}

    server.rules.append(rule)
    with pytest.raises(EndpointError, match=r"status 503\): overloaded"):
        Server(f"http://{server.host}/v1", "acme-1").write(CHAT, {}, seconds=4)


def test_a_finished_answer_does_not_wait_for_the_close(
    server: Any, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LAST_SECONDS", 0.5)
    began = time.monotonic()
    reply = stream(hold(gate, part("So"), part(None, "stop")))
    found = write(server, reply, tell=lambda _text: True)
    assert json.loads(json.dumps(found)) == {"text": "So", "finish_reason": "stop", "model": "acme-1"}
    assert time.monotonic() - began < WAIT / 2
