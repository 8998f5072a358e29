"""A limit on the processor time of what others wrote: chat templates and patterns, which may never end."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from training.engine.errors import EngineError


class _OvertimeError(BaseException):
    """The end of the time. It is not an Exception, so that no `except Exception` holds it up."""


@contextlib.contextmanager
def within(seconds: float, error: EngineError) -> Iterator[None]:
    """Raise `error` once the block has used so many seconds of this process's processor time.

    Ends loops of Python, Jinja and `re` alike, which all look for signals. Time that other programs take does not
    count. Outside the main thread, where Python cannot be interrupted, nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except _OvertimeError:
        raise error from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _OvertimeError
