"""Standard output whose reader leaves before its end, as `head` does."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def end_with_reader() -> Iterator[None]:
    """End the process, as a broken pipe ends other tools, where the reader of standard output has left."""
    try:
        try:
            yield
        finally:
            if sys.stdout:  # may have been closed from the start
                sys.stdout.flush()
    except BrokenPipeError:
        if not _has_reader_left():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise SystemExit(128 + signal.SIGPIPE) from None


def _has_reader_left() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))  # an error of the pipe is always told
