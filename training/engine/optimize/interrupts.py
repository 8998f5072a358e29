"""SIGTERM and SIGINT while training: a checkpoint is written at once, even in the middle of a step.

A Python signal handler only runs between two bytecodes of the main thread, and a backward pass over a large
row can last for seconds inside PyTorch. So a thread is woken by the signal itself, and writes the checkpoint of
the last whole step: weights and optimizer do not change during forward and backward passes.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from training.engine.errors import EngineError, InterruptedRunError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """Handlers of SIGTERM and SIGINT: the first signal saves, and ends the process with InterruptedRunError's code.

    Does nothing outside the main thread, where Python cannot set signal handlers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._save: Callable[[], None] | None = None
        self._active = threading.current_thread() is threading.main_thread()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._active:
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._before: dict[int, Any] = {one: signal.signal(one, _nothing) for one in _SIGNALS}
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            signal.set_wakeup_fd(self._wakeup_before)
            for one, handler in self._before.items():
                signal.signal(one, handler)
            os.close(self._write)  # ends the thread
            # Left alone, it could be the last to hold the model, and free it while the interpreter ends: that aborts.
            self._watcher.join()
        self._save = None

    def on_stop(self, save: Callable[[], None]) -> None:
        """Call `save` before the process ends."""
        self._save = save

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep a stop waiting while state and files change together."""
        with self._lock:
            yield

    def _watch(self) -> None:
        while data := os.read(self._read, 1):
            if data[0] in _SIGNALS:
                self._stop()
        os.close(self._read)

    def _stop(self) -> None:
        with self._lock:
            code, sentence = (
                InterruptedRunError.exit_code,
                "Stopped; train again goes on from the checkpoint.",
            )
            if self._save is None:
                sentence = "Stopped before the first step; train again starts over."
            else:
                try:
                    self._save()
                except EngineError as error:
                    code, sentence = error.exit_code, str(error)
            with contextlib.suppress(OSError):  # the reader is gone, or the disk of the log is full
                print(sentence, file=sys.stderr, flush=True)
            # The main thread is deep inside a step that is not needed any more.
            os._exit(code)


def _nothing(signum: int, frame: Any) -> None:
    """Replace the default action, which would end the process at once."""
