"""The process that a command works for. Killed, it cannot end the command: the command finds out and ends by itself."""

import os
import signal
import stat
import threading
import time

GRACE_SECONDS = 60.0  # for the checkpoint that SIGTERM asks for: no other process waits for the end


def has_pipe() -> bool:
    """Return whether the standard input is a pipe: a file, a terminal or none would end at once, or never."""
    try:
        return stat.S_ISFIFO(os.fstat(0).st_mode)
    except OSError:  # closed
        return False


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
    """Send a signal to this process, and to its group where that was made for it with a session of its own.

    A shell's pipeline is a group too, which its first command leads, and the others of it are not ours.
    """
    own = os.getpid()
    if os.getsid(0) == own:
        os.killpg(own, number)
    else:
        os.kill(own, number)
