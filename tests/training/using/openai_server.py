"""A server that speaks OpenAI's interface, for tests: it answers by rules, and keeps every request."""

import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from tests.local_server import LocalServer, QuietHandler

Reply = tuple[int, dict[str, Any] | bytes | Iterable[bytes], dict[str, str]]
Rule = Callable[[str, dict[str, Any]], Reply | None]


def completion(text: str, reason: str = "stop", *, chat: bool = True) -> dict[str, Any]:
    """Return the body of a good answer."""
    what = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {"model": "acme-1", "choices": [{**what, "index": 0, "finish_reason": reason}]}


def event(data: Any) -> bytes:
    """Return one server-sent event."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def part(text: str | None, reason: str | None = None, *, chat: bool = True) -> bytes:
    """Return the event with a part of a completion."""
    what = {"delta": {"content": text}} if chat else {"text": text}
    return event({"model": "acme-1", "choices": [{**what, "index": 0, "finish_reason": reason}]})


def stream(parts: Iterable[bytes]) -> Reply:
    """Return an answer in parts. A server says so by its type, and ends it by closing the connection."""
    return 200, parts, {"Content-Type": "text/event-stream; charset=utf-8"}


def words(text: str, *, chat: bool = True) -> Reply:
    """Return a completion that is streamed word by word."""
    parts = [part(word, chat=chat) for word in re.split("(?<= )", text)]
    return stream([*parts, part(None, "stop", chat=chat), event(b"[DONE]")])


class Server(LocalServer):
    """`rules` are asked in order; without an answer of theirs, the prompt is answered with its length and seed."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.rules: list[Rule] = []
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.at_once, self.most_at_once, self.lock = 0, 0, threading.Lock()
        self.left = 0  # how often the client left before the end

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        for rule in self.rules:
            if (found := rule(path, body)) is not None:
                return found
        is_chat = path.endswith("/chat/completions")
        asked = body["messages"][-1]["content"] if is_chat else body["prompt"]
        text = f"{len(asked)} letters, seed {body['seed']}"
        if body.get("stream"):
            return words(text, chat=is_chat)
        return 200, completion(text, chat=is_chat), {}


class _Handler(QuietHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, body, self.headers.get("Authorization", "")))
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            self._send(*self.server.answer(self.path, body))
        except ConnectionError:
            self.server.left += 1
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def _send(
        self, status: int, answer: dict[str, Any] | bytes | Iterable[bytes], headers: dict[str, str]
    ) -> None:
        content = json.dumps(answer).encode() if isinstance(answer, dict) else answer
        length = {"Content-Length": str(len(content))} if isinstance(content, bytes) else {}
        self.send_response(status)
        for name, value in {**length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for some in [content] if isinstance(content, bytes) else content:
            self.wfile.write(some)
