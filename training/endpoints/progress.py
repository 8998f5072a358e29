"""The progress of one answer: its text so far, told about twice a second, until a deadline."""

import threading
import time
from collections.abc import Callable

from primitives.sockets import PACE
from training.endpoints.answers import make_length_error
from training.endpoints.errors import StoppedError

LONGEST_TEXT = 8 << 20  # characters

Tell = Callable[[str], bool]  # text so far -> whether the answer is still wanted


class Progress:
    """The text so far, and the caller who hears of it.

    `stop` ends pauses between retries. It does not interrupt a request.
    """

    def __init__(self, seconds: float, stop: threading.Event, tell: Tell) -> None:
        self.until, self.stop, self.tell = time.monotonic() + seconds, stop, tell
        self.parts: list[str] = []
        self.size, self.next = 0, 0.0

    @property
    def text(self) -> str:
        """Return the text so far. Halves of a surrogate pair that came one by one are one character again."""
        if len(self.parts) > 1:
            both = "".join(self.parts).encode("utf-16-le", "surrogatepass")
            self.parts = [both.decode("utf-16-le", "surrogatepass")]
        return "".join(self.parts)

    @property
    def seconds_left(self) -> float:
        return self.until - time.monotonic()

    def add(self, part: str) -> None:
        """Add to the text. Its first words are told at once. Raises EndpointError if it is too long."""
        if part and not self.parts:
            self.next = 0.0
        self.count(part)
        self.parts.append(part)

    def count(self, part: str) -> None:
        """Count what came beside the text. Raises EndpointError if it is all too long."""
        self.size += len(part)
        if self.size > LONGEST_TEXT:
            raise make_length_error()

    def step(self) -> None:
        """Tell the text if it is time. Raises StoppedError if it is not wanted, and TimeoutError past the deadline."""
        now = time.monotonic()
        if now >= self.next:
            self.next = now + PACE
            self.tell_now()
        if now >= self.until:
            raise TimeoutError

    def shorten(self, seconds: float) -> None:
        """Move the deadline to so many seconds from now, unless it is earlier."""
        self.until = min(self.until, time.monotonic() + seconds)

    def tell_now(self) -> None:
        """Tell the text. Raises StoppedError if it is not wanted."""
        if not self.tell(self.text):
            raise StoppedError

    def wait(self, seconds: float) -> None:
        """Wait, as long as the answer is wanted. Raises StoppedError if it is not."""
        if self.stop.is_set():
            raise StoppedError
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.step()
            if self.stop.wait(min(left, PACE)):
                raise StoppedError
