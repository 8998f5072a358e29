"""The warm child of a worker: `python -m training.engine serve`, started for a first prompt and kept for the next.

Each process of a worker's pool has one at most. It ends when it was idle for some minutes, when a training begins in
this process, and with the process itself, whose end closes its input.
"""

import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, cast

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from training.engine.config import TrainConfig
from training.engine.records import LONGEST_REQUEST
from training.rounds import child_process

IDLE_SECONDS = 300
TICK = 0.5  # seconds between two looks at whether the answer is still wanted
STOP_SECONDS = 5.0  # in which the child ends an answer, or is ended
ENDS = frozenset({"sample", "error", "stopped"})  # of an answer
LONGEST_ANSWER = 32 << 20  # bytes
_TAIL = 2000  # bytes of what it said on standard error

Tell = Callable[[str, float, str], bool]  # phase, share and text so far -> whether the answer is still wanted


class UnwantedError(Exception):
    """The end of an answer that is not wanted any more."""


class EngineRefusalError(RefusalError):
    """A refusal by the engine, which goes on serving."""


class WarmEngine:
    """One child process, and the line that is spoken with it."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.log: Any = None
        self.rest = b""
        self.is_writing = False
        self.lock = threading.Lock()

    def write(
        self, config: TrainConfig, prompt: Any, tell: Tell, seconds: float, tools: Any = None
    ) -> dict[str, Any]:
        """Return the line of samples.jsonl for one prompt. `tools` are what its chat template is told of.

        `tell` hears how far it is, and what is written so far. Where it answers False the child stops writing, and
        UnwantedError is raised. Raises EngineRefusalError with the engine's sentence, and RefusalError after so many
        `seconds` or if the child has ended.
        """
        with self.lock:
            try:
                asked = {"config": config.to_dict(), "prompt": prompt, "tools": tools or None}
                return self._write(asked, tell, time.monotonic() + seconds)
            finally:
                if self.is_writing:
                    self._end()

    def close(self) -> None:
        """End the child, so that its memory is free."""
        with self.lock:
            self._end()

    def _write(self, asked: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
        request = json.dumps(asked).encode() + b"\n"
        if len(request) > LONGEST_REQUEST:
            raise RefusalError(_("The prompt is too long."), "prompt")
        child = self._start()
        phase, share, text = "starting", 0.0, ""
        self.is_writing = True
        try:
            stream = cast(IO[bytes], child.stdin)
            stream.write(request)
            stream.flush()
        except OSError as error:
            raise RefusalError(self._last_words()) from error
        while True:
            if not tell(phase, share, text):
                self._stop(child)
                raise UnwantedError
            if time.monotonic() > deadline:
                self._stop(child)
                raise RefusalError(_("The answer took too long. Ask for fewer tokens."))
            for answer in self._answers():
                if "sample" in answer:
                    return dict(answer["sample"])
                if "error" in answer:
                    raise EngineRefusalError(str(answer["error"]))
                phase, share = str(answer.get("phase", phase)), float(answer.get("share", 0.0))
                text = str(answer.get("text", text))

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        """Have the child stop writing, within some seconds. Its model stays loaded.

        While it loads a model it hears nothing. If that takes longer, the caller ends it.
        """
        until = time.monotonic() + STOP_SECONDS
        with suppress(OSError, RefusalError):  # where it has ended
            stream = cast(IO[bytes], child.stdin)
            stream.write(b'{"stop": true}\n')
            stream.flush()
            while self.is_writing and time.monotonic() < until:
                self._answers()

    def _answers(self) -> list[dict[str, Any]]:
        """Return what the child says within a tick, and note whether it has ended its answer."""
        stream = cast(IO[bytes], cast(Any, self.child).stdout).fileno()
        if not select.select([stream], [], [], TICK)[0]:
            return []
        part = os.read(stream, 1 << 16)
        if not part:
            raise RefusalError(self._last_words())
        *lines, self.rest = (self.rest + part).split(b"\n")
        if len(self.rest) > LONGEST_ANSWER:
            raise RefusalError(_("The engine said something that is not understood."))
        answers = [json.loads(line) for line in lines]
        self.is_writing = not any(ENDS & answer.keys() for answer in answers)
        return answers

    def _start(self) -> subprocess.Popen[bytes]:
        """Return the child that runs already, or a new one."""
        if self.child is not None and self.child.poll() is None:
            return self.child
        self._end()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the child
        self.child = child_process.start_talking_child(
            "serve", "--idle", str(IDLE_SECONDS), stdout=subprocess.PIPE, stderr=self.log
        )
        return self.child

    def _last_words(self) -> str:
        """Return why the child has ended: its last line on standard error."""
        said = ""
        if self.log is not None:
            self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - _TAIL))
            lines = self.log.read().decode(errors="replace").strip().splitlines()
            said = lines[-1].removeprefix("error: ") if lines else ""
        if said:
            return said
        return _("The engine ended without a word, as it does when memory runs out.")

    def _end(self) -> None:
        child, self.child, self.rest, self.is_writing = self.child, None, b"", False
        if child is not None:
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with suppress(OSError):  # of what it was told last, and will never hear
                        stream.close()
            child_process.end_child(child)
        if self.log is not None:
            self.log.close()
            self.log = None


engine = WarmEngine()
