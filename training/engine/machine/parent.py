"""The process that a command works for. Killed, it cannot end the command: the command finds out and ends by itself."""

import os
import signal
import threading
import time

GRACE_SECONDS = 10.0  # for the checkpoint that SIGTERM asks for


def end_with_input() -> None:
    """End this process soon after its standard input has ended, which is a pipe from the process that it works for.

    Such a pipe ends with its last writer, however that ends, on every system. Under torchrun all processes share it.
    """
    threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1 << 16):
        pass
    _signal(signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    _signal(signal.SIGKILL)


def _signal(number: signal.Signals) -> None:
    """Send a signal to this process, and to those that it started where it leads their group."""
    own = os.getpid()
    if os.getpgrp() == own:
        os.killpg(own, number)
    else:
        os.kill(own, number)
