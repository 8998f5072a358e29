"""Annotators at work over HTTP: each keeps a connection, a session and a comparison, as the desk's script does.

A cycle is what happens between two verdicts: send the verdict on the comparison at hand, and receive the next.
"""

import asyncio
import random
import re
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlencode

from benchmarks.web_pool import Visitor

COMPARISON = re.compile(r'data-token="([0-9a-f-]{36})"')
AHEAD = '<template id="ahead">'
VERDICTS = {
    "a3": "prefer",
    "a2": "prefer",
    "a1": "prefer",
    "b1": "prefer",
    "b2": "prefer",
    "tie": "tie",
    "skip": "skip",
}


@dataclass
class Load:
    """The annotators' answers and their times."""

    cycles: int = 0  # asked for
    latencies: list[float] = field(default_factory=list)  # seconds from verdict to next, one a cycle
    errors: Counter[str] = field(default_factory=Counter)
    sent: dict[str, tuple[int, str]] = field(default_factory=dict)  # token -> (annotator, verdict), confirmed
    started: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Milliseconds within which this share of cycles was answered."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection:
    """One browser: HTTP/1.1 with keep-alive and gzip, a session cookie and a CSRF cookie."""

    def __init__(self, port: int, cookie: str) -> None:
        self.port, self.cookies = port, {"sessionid": cookie}
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Return status and text. Raises OSError or asyncio.IncompleteReadError when the connection breaks."""
        if self.reader is None or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.writer is not None
        body = urlencode(form or {}).encode()
        headers = {
            "Host": f"127.0.0.1:{self.port}",
            "Accept-Encoding": "gzip",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
        }
        if method == "POST":
            headers |= {
                "HX-Request": "true",
                "X-CSRFToken": self.cookies.get("csrftoken", ""),
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(len(body)),
            }
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        self.writer.write("\r\n".join(lines).encode() + (body if method == "POST" else b""))
        return await self._response()

    async def _response(self) -> tuple[int, str]:
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in head[1:]:
            name, _, value = line.partition(": ")
            if name.lower() == "set-cookie":
                cookie, _, content = value.partition(";")[0].partition("=")
                self.cookies[cookie] = content
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, 31)
        if headers.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), body.decode()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def _annotate(
    load: Load, port: int, slug: str, annotator: Visitor, *, pause: float, until: float
) -> None:
    """Judge until the cycles or the time are used up, or nothing is left."""
    chance = random.Random(annotator.pk)
    browser = Connection(port, annotator.cookie)
    path = f"/p/{slug}/judge/"
    current: tuple[str, str, str] | None = None
    ahead: tuple[str, str, str] | None = None
    if pause:
        await asyncio.sleep(chance.random() * 2 * pause)  # people do not start at the same moment
    while time.perf_counter() < until and load.cycles > 0:
        try:
            if current is None:
                _, page = await browser.request("GET", path)
                current = find(page)
                if current is None:
                    load.errors["nothing left, or no page"] += 1
                    return
                _, answer = await browser.request("POST", path + "ahead/")
                ahead = find(answer)
            if pause:
                await asyncio.sleep(chance.expovariate(1 / pause))
            load.cycles -= 1
            token, choice = current, chance.choice(list(VERDICTS))
            form = {"token": token, "verdict": choice, "seconds": "3.5"}
            start = time.perf_counter()
            status, answer = await browser.request("POST", path, form | {"shown": ahead or ""})
            took = time.perf_counter() - start
            if status != 200 or 'data-word="error"' in answer:
                load.errors[f"status {status}"] += 1
                current = None
                continue
            load.latencies.append(took)
            load.sent[token] = (annotator.pk, VERDICTS[choice])
            here, _, there = answer.partition(AHEAD)
            current, ahead = find(here) or ahead, find(there)
        except (OSError, asyncio.IncompleteReadError) as error:
            load.errors[type(error).__name__] += 1
            browser.close()
            current = None
    browser.close()


def find(html: str) -> str | None:
    """Return the token of the first comparison in a page or fragment."""
    found = COMPARISON.search(html)
    return found[1] if found else None


def run(
    port: int, slug: str, annotators: list[Visitor], *, cycles: int, seconds: float, pause: float = 0.0
) -> Load:
    """Let the annotators work until `cycles` verdicts are given or `seconds` are over; `pause` is a mean."""

    async def everybody() -> Load:
        load = Load(cycles=cycles)
        start = time.perf_counter()
        await asyncio.gather(
            *(_annotate(load, port, slug, one, pause=pause, until=start + seconds) for one in annotators)
        )
        load.seconds = time.perf_counter() - start
        return load

    return asyncio.run(everybody())
