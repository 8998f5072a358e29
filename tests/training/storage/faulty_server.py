"""A server in front of the S3 server, which lets requests through, or answers them badly."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})
SLOWLY = 32 << 10  # bytes that a slow storage takes or sends at once
ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{0}</Code><Message>{0}</Message></Error>'


@dataclass(frozen=True)
class Fault:
    """A bad answer: a status and a body in place of the server's, or what becomes of the server's own body."""

    status: int = 0
    code: str = ""
    body: bytes = b""
    spoil: Callable[[bytes], bytes] | None = None
    cut: bool = False  # the connection ends in the middle of the body
    seconds: float = 0.0
    dribble: float = 0.0  # seconds between two bytes of the answer, head and body
    speed: float = 0.0  # bytes a second of the request's body, or of the answer's


class Dribble:
    """A stream that sends a byte at a time, until no one listens."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream, self._seconds = stream, seconds

    def write(self, content: bytes) -> None:
        with suppress(OSError):
            for number in range(len(content)):
                self._stream.write(content[number : number + 1])
                time.sleep(self._seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass
class FaultyServer:
    """The server. `choose` says of a method and a path what goes wrong, if anything does."""

    behind: str
    choose: Callable[[str, str], Fault | None] = lambda _method, _path: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        fault = self.choose(request.command, request.path) or Fault()
        content = b"".join(
            request.rfile.read(len(part)) for part in _slowly(memoryview(bytes(length)), fault.speed)
        )
        self.asked.append((request.command, request.path))
        time.sleep(fault.seconds)
        if fault.dribble:
            request.wfile = Dribble(request.wfile, fault.dribble)  # type: ignore[assignment]
        if fault.status:
            body = fault.body or ERROR.format(fault.code).encode()
            self._send(request, fault.status, {"Content-Type": "application/xml"}, body)
            return
        place = urlsplit(self.behind)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        connection.request(request.command, request.path, body=content, headers=headers)
        found = connection.getresponse()
        body = found.read()
        kept = {name: value for name, value in found.getheaders() if name.lower() not in HOP}
        if request.command == "HEAD":
            kept["Content-Length"] = found.headers["Content-Length"] or "0"
        connection.close()
        if fault.spoil and found.status < 300:
            body = fault.spoil(body)
        self._send(request, found.status, kept, body, cut=fault.cut, speed=fault.speed)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        body: bytes,
        *,
        cut: bool = False,
        speed: float = 0.0,
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if request.command != "HEAD":
            request.send_header("Content-Length", str(len(body)))
        elif "Content-Length" not in headers:
            request.send_header("Content-Length", "0")
        request.end_headers()
        if request.command != "HEAD":
            for part in _slowly(memoryview(body[: len(body) // 2] if cut else body), speed):
                request.wfile.write(part)
        request.close_connection = cut


def _slowly(content: memoryview, speed: float) -> Iterator[memoryview]:
    """Yield parts of the content, so many bytes a second; all at once without a speed."""
    at_once = SLOWLY if speed else max(1, len(content))
    for start in range(0, len(content), at_once):
        time.sleep(at_once / speed if speed else 0)
        yield content[start : start + at_once]


@contextmanager
def faulty_server(behind: str) -> Iterator[FaultyServer]:
    """Run the server in front of the one `behind`."""
    server = FaultyServer(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_said: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            server.answer(self)

        do_PUT = do_HEAD = do_DELETE = do_POST = do_GET

    class Listening(ThreadingHTTPServer):
        def server_bind(self) -> None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOWLY)  # what is on its way is seen
            super().server_bind()

    with Listening(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        host, port = listening.server_address[:2]
        server.address = f"http://{host!s}:{port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
