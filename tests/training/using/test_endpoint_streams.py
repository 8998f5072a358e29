"""Streamed answers of endpoints: they grow, and whatever a server does, they end and keep what there is."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.training.using.openai_server import completion, event, part, stream, words
from tests.waiting import wait_for
from training.endpoints import progress, streaming
from training.endpoints.client import Server
from training.endpoints.errors import EndpointError, PromptRefusedError, StoppedError

CHAT = [{"role": "user", "content": "Why?"}]
WAIT = 20.0  # seconds that no test should need


class StreamedAnswer:
    """An answer that was asked for, and the texts that were told."""

    def __init__(self, server: Any, prompt: Any = CHAT, seconds: float = WAIT) -> None:
        self.texts: list[str] = []
        self.is_wanted = True
        self.host, self.prompt, self.seconds = server.host, prompt, seconds

    def tell(self, text: str) -> bool:
        self.texts.append(text)
        return self.is_wanted

    def write(self) -> dict[str, Any]:
        server = Server(f"http://{self.host}/v1", "acme-1")
        return server.write(self.prompt, {"seed": 1}, seconds=self.seconds, tell=self.tell)


@pytest.fixture
def ask(server: Any) -> Callable[..., StreamedAnswer]:
    """ask(reply, …): an answer of a server that replies so."""

    def ask(reply: Any, **options: Any) -> StreamedAnswer:
        server.rules.append(lambda _path, _body: reply)
        return StreamedAnswer(server, **options)

    return ask


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return an event for which a server waits in the middle of an answer. It is set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_the_text_is_told_before_the_server_ends(ask: Any, gate: threading.Event, server: Any) -> None:
    def parts() -> Iterator[bytes]:
        yield part("So ")
        assert gate.wait(WAIT)
        yield part("it ")
        yield part("goes", "length")
        yield event(b"[DONE]")

    asking = ask(stream(parts()))
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asking.write()))
    thread.start()
    wait_for(lambda: asking.texts[-1:] == ["So "], WAIT)
    gate.set()
    thread.join(WAIT)
    assert found == [{"text": "So it goes", "finish_reason": "length", "model": "acme-1"}]
    assert server.asked[0][1]["stream"] is True


def test_plain_prompts_are_streamed_too(server: Any) -> None:
    found = StreamedAnswer(server, "The film").write()
    assert found == {"text": "8 letters, seed 1", "finish_reason": "stop", "model": "acme-1"}
    assert server.asked[0][0] == "/v1/completions"


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([b": ping\n\n", b"event: x\nid: 1\n", part("A\u00e9"), event(b"[DONE]")], "A\u00e9"),
        ([b"\xef\xbb\xbf" + part("A"), event(b"[DONE]")], "A"),
        ([part("A").replace(b"\n", b"\r\n"), b"data: [DONE]"], "A"),
        ([part("A", "stop")], "A"),
        ([event({"choices": [], "usage": {}}), part("A", "stop"), event({"usage": None})], "A"),
        ([b'data: {"choices": [{"delta":\n', b'data: {"content": "A"}}]}\n\n', event(b"[DONE]")], "A"),
        ([bytes([one]) for one in part("\u20ac") + event(b"[DONE]")], "\u20ac"),
        ([part("\ud83d"), part("\ude00"), event(b"[DONE]")], "\U0001f600"),
        ([part("\ud83dx\0"), event(b"[DONE]")], "?x"),
        ([event({"choices": [{"index": 1, "delta": {"content": "B"}}]}), part("A", "stop")], "A"),
        ([part("A"), event(b"[DONE]"), part("more")], "A"),
    ],
)
def test_forms_that_servers_write(ask: Any, parts: list[bytes], text: str) -> None:
    assert ask(stream(parts)).write()["text"] == text


@pytest.mark.parametrize(
    ("reply", "says", "kept"),
    [
        (stream([]), "not that of OpenAI", ""),
        (stream([b"\x1f\x8b\x08\x00\xff\n\n"]), "not that of OpenAI", ""),
        (stream([event(b"[1]")]), "not that of OpenAI", ""),
        (stream([event(b"[" * 5000)]), "not that of OpenAI", ""),
        (stream([event({"choices": "x"})]), "not that of OpenAI", ""),
        (stream([event({"choices": [1]})]), "not that of OpenAI", ""),
        (stream([part("So"), event({"choices": [{"delta": {"content": [1]}}]})]), "not that of OpenAI", "So"),
        (stream([part("So"), b"data: \xff\n\n"]), "not that of OpenAI", "So"),
        (stream([part("So"), b"data: {\n\n"]), "not that of OpenAI", "So"),
        (stream([part("So"), event({"error": {"message": "Out of <memory>"}})]), "Out of <memory>", "So"),
        (stream([part("So"), event({"error": "gone"})]), "ended the answer with an error: gone", "So"),
        (stream([part("So ")]), "broke off in the middle", "So "),
        (
            (200, [part("So")], {"Content-Type": "text/event-stream", "Content-Length": "999"}),
            "broke off",
            "So",
        ),
        ((200, b"<html>", {"Content-Type": "text/html"}), "not that of OpenAI", ""),
    ],
)
def test_what_goes_wrong_keeps_what_came(ask: Any, reply: Any, says: str, kept: str) -> None:
    asking = ask(reply)
    with pytest.raises(EndpointError, match=says):
        asking.write()
    assert ["", *asking.texts][-1] == kept


def test_a_chunk_that_is_cut_off_keeps_what_came(ask: Any) -> None:
    first = part("So")
    chunk = b"%x\r\n%s\r\n" % (len(first), first)
    headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    asking = ask((200, [chunk, b"ff\r\ndata: {"], headers))
    with pytest.raises(EndpointError, match="broke off in the middle"):
        asking.write()
    assert asking.texts[-1] == "So"


def endless(one: bytes) -> Iterator[bytes]:
    while True:
        yield one


@pytest.mark.parametrize(
    "some",
    [b"x" * 4096, b": ping\n\n", b"data: " + b"x" * 4000, part("so " * 300), event({"choices": []}) * 50],
    ids=["line", "comments", "data", "text", "nothing"],
)
def test_a_flood_ends_at_a_bound_of_bytes(
    ask: Any, server: Any, monkeypatch: pytest.MonkeyPatch, some: bytes
) -> None:
    monkeypatch.setattr(streaming, "LONGEST_LINE", 1 << 16)
    monkeypatch.setattr(streaming, "LONGEST_STREAM", 1 << 20)
    monkeypatch.setattr(progress, "LONGEST_TEXT", 1 << 19)
    asking = ask(stream(endless(some)))
    with pytest.raises(EndpointError, match="too long"):
        asking.write()
    assert len(asking.texts[-1]) <= 1 << 19
    wait_for(lambda: server.left, WAIT)


def trickle(gate: threading.Event, *first: bytes) -> Iterator[bytes]:
    """Yield something, and then a byte now and then without end."""
    yield from first
    while not gate.wait(0.02):
        yield b":"


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/event-stream"}, {"Content-Type": "application/json"}]
)
def test_a_trickle_ends_at_the_deadline(ask: Any, gate: threading.Event, headers: dict[str, str]) -> None:
    asking = ask((200, trickle(gate), headers), seconds=1.0)
    began = time.monotonic()
    with pytest.raises(EndpointError, match="took too long"):
        asking.write()
    assert time.monotonic() - began < WAIT


def test_the_deadline_keeps_what_came(ask: Any, gate: threading.Event) -> None:
    asking = ask(stream(trickle(gate, part("So"))), seconds=1.0)
    with pytest.raises(EndpointError, match="took too long"):
        asking.write()
    assert asking.texts[-1] == "So"


def test_a_silent_server_is_left_once_unwanted(ask: Any, gate: threading.Event, server: Any) -> None:
    def silent() -> Iterator[bytes]:
        yield part("So")
        gate.wait(WAIT)
        yield from endless(b":\n")

    asking = ask(stream(silent()))
    stopping = threading.Thread(
        target=lambda: wait_for(lambda: "So" in asking.texts, WAIT) and setattr(asking, "is_wanted", False)
    )
    stopping.start()
    with pytest.raises(StoppedError):
        asking.write()
    assert not gate.is_set()
    gate.set()
    wait_for(lambda: server.left, WAIT)
    stopping.join()


def test_a_server_that_ignores_streaming_is_understood(ask: Any) -> None:
    asking = ask((200, completion("all at once"), {"Content-Type": "application/json"}))
    assert asking.write()["text"] == "all at once"


def test_a_server_that_refuses_to_stream_is_asked_without(server: Any) -> None:
    def rule(_path: str, body: dict[str, Any]) -> Any:
        if "stream" in body:
            return 400, {"error": {"message": "'stream' is not supported"}}, {}
        return 200, completion("whole"), {}

    server.rules.append(rule)
    assert StreamedAnswer(server).write()["text"] == "whole"
    server.rules[:] = [lambda _path, _body: (400, {"error": {"message": "No streams here."}}, {})]
    with pytest.raises(PromptRefusedError, match="No streams here"):
        StreamedAnswer(server).write()


def test_a_busy_server_is_asked_again_before_it_streams(server: Any) -> None:
    replies = [(503, b"busy", {"Retry-After": "0"}), words("now then")]
    server.rules.append(lambda _path, _body: replies.pop(0))
    assert StreamedAnswer(server).write()["text"] == "now then"


def test_an_answer_that_has_begun_is_never_asked_for_twice(ask: Any, server: Any) -> None:
    asking = ask((200, [part("So")], {"Content-Type": "text/event-stream", "Content-Length": "999"}))
    with pytest.raises(EndpointError):
        asking.write()
    assert len(server.asked) == 1


def test_a_stream_leads_to_no_other_host(ask: Any, server: Any) -> None:
    asking = ask((307, b"", {"Location": "http://169.254.169.254/", "Content-Type": "text/event-stream"}))
    with pytest.raises(EndpointError, match="status 307"):
        asking.write()
    assert len(server.asked) == 1


def call(index: int | None, **parts: Any) -> bytes:
    """Return the event with a part of a call of a tool."""
    function = {name: parts.pop(name) for name in ("name", "arguments") if name in parts}
    place = {} if index is None else {"index": index}
    return event({"choices": [{"delta": {"tool_calls": [{**place, **parts, "function": function}]}}]})


CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"of": "Bonn"}'}}


def test_calls_of_tools_are_put_together(ask: Any) -> None:
    parts = [
        part("Let me see."),
        call(0, id="c1", type="function", name="look_up", arguments=""),
        call(0, arguments='{"of": '),
        call(0, arguments='"Bonn"}'),
        call(1, name="count", arguments="{}"),
        part(None, "tool_calls"),
        event(b"[DONE]"),
    ]
    found = ask(stream(parts)).write()
    other = {"type": "function", "function": {"name": "count", "arguments": "{}"}}
    said = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, other]}
    assert (found["messages"], found["finish_reason"]) == ([said], "unknown")
    assert "look_up" in found["text"]


def test_a_call_that_comes_at_once_is_kept(ask: Any) -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    found = ask((200, {"choices": [{"message": said, "finish_reason": "tool_calls"}]}, {})).write()
    assert found["messages"] == [said]
    assert "look_up" in found["text"]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([call(index, name="f") for index in range(200)], "too long"),
        ([call(0, name="f"), *[call(0, arguments="x" * 50_000)] * 4], "not that of OpenAI"),
        ([call(0, name=["f"])], "not that of OpenAI"),
        ([call("0", name="f")], "not that of OpenAI"),
        ([call(0, arguments="{}")], "not that of OpenAI"),
        ([event({"choices": [{"delta": {"tool_calls": "f"}}]})], "not that of OpenAI"),
        ([event({"choices": [{"delta": {"tool_calls": [{"function": 1}]}}]})], "not that of OpenAI"),
    ],
    ids=["many", "long", "name", "index", "nameless", "text", "number"],
)
def test_calls_that_are_none_are_refused(ask: Any, parts: list[bytes], says: str) -> None:
    with pytest.raises(EndpointError, match=says):
        ask(stream([*parts, event(b"[DONE]")])).write()
