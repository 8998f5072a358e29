"""Measuring in a process of its own: memory that is short ends it, and not the plan."""

import importlib
import multiprocessing
import signal
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from training.engine.errors import EngineError, memory_short


class KilledError(Exception):
    """The end of a child by the system, as when memory runs out."""


def measured(function: str, *arguments: Any) -> dict[str, Any]:
    """Return what `function`, a dotted name, returns in a new process.

    `starting` is added: the seconds that the process took to start.

    Raises its EngineError, KilledError if it was killed, RuntimeError with its traceback for anything else.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, time.time(), function, arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        child.join()
        if child.exitcode == -signal.SIGKILL:
            raise KilledError from None
        raise RuntimeError(f"{function} ended with exit code {child.exitcode}.") from None
    child.join()
    if isinstance(answer, EngineError):
        raise answer
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return dict(answer)


def _answer(connection: Connection, sent: float, function: str, arguments: tuple[Any, ...]) -> None:
    module, _, name = function.rpartition(".")
    try:
        compute = getattr(importlib.import_module(module), name)
        starting = {"starting": time.time() - sent}
        answer = compute(*arguments) | starting
    except EngineError as error:
        answer = error
    except Exception as error:  # noqa: BLE001 - the parent raises it again
        answer = memory_short(error) or traceback.format_exc()
    connection.send(answer)
    connection.close()
