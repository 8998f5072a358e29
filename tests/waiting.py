"""Waiting for conditions, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found], seconds: float = 150, *, every: float = 0.05) -> Found:
    """Wait until the condition holds, and return what it gave. Fails after `seconds`, generous on purpose."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"It did not happen within {seconds:g} seconds."
        time.sleep(every)
    return found
