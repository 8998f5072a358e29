"""The journal of a training: what it says, and the files that grow with its steps.

Every process calls the same methods. Only the first one writes and speaks.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from training.engine.optimize import checkpoints
from training.engine.optimize.checkpoints import Position
from training.engine.optimize.state import State
from training.engine.optimize.task import Task
from training.engine.rundir import Log, RunDirectory
from training.engine.trackers import Tracking


class Journal:
    """Progress, events and times of a run."""

    def __init__(self, run: RunDirectory, *, speaks: bool) -> None:
        self.events: list[str] = []
        self.seconds: dict[str, float] = {}  # by phase
        self._run, self._speaks = run, speaks
        self._started = time.monotonic()

    def report(self, phase: str, step: int = 0, total: int = 0, eta: float | None = None) -> None:
        """Replace progress.json. `eta` is in seconds."""
        if self._speaks:
            self._run.progress(phase, step, total, eta)

    def note(self, event: str) -> None:
        """Say an event that done.json will name."""
        self.events.append(event)
        self.say(event)

    def say(self, sentence: str) -> None:
        """Write a sentence to standard error."""
        if self._speaks:
            print(sentence, file=sys.stderr)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Keep the seconds that the phase inside takes."""
        began = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - began

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._started


class Recorder(contextlib.AbstractContextManager["Recorder"]):
    """The files that grow with the steps: metrics.jsonl, evals.jsonl and checkpoints/."""

    def __init__(
        self,
        run: RunDirectory,
        position: Position,
        fingerprint: dict[str, str],
        *,
        writes: bool,
        tracking: Tracking | None = None,
    ) -> None:
        """Open both logs where `position` left them, and drop what a stop left beyond it. Raises StorageError.

        `tracking` is shown each line.
        """
        self._tracking = tracking
        self._folder, self._fingerprint = run.checkpoints, fingerprint
        self._metrics = Log(run.metrics, position.metrics_size) if writes else None
        self._evals = Log(run.evals, position.evals_size) if writes else None

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        if self._metrics:
            self._metrics.append(row)
            if self._tracking:
                self._tracking.log(row)

    def add_evaluation(self, row: dict[str, Any]) -> None:
        """Add a line to evals.jsonl."""
        if self._evals:
            self._evals.append(row)
            if self._tracking:
                self._tracking.log(row, "eval/")

    def save(self, state: State) -> None:
        """Write a checkpoint of `state`, with the sizes that the logs have now. Raises StorageError."""
        if self._metrics and self._evals:
            position = Position(state.step, self._metrics.sync(), self._evals.sync(), state.evaluated)
            checkpoints.save(self._folder, position, state.tensors(), self._fingerprint)

    def sync(self) -> None:
        """Wait until metrics.jsonl is on the disk."""
        if self._metrics:
            self._metrics.sync()

    def __exit__(self, *raised: object) -> None:
        for log in (self._metrics, self._evals):
            if log:
                log.__exit__(*raised)
        if self._tracking:
            self._tracking.close()


class Pace:
    """The speed since a step, and the time that it leaves.

    Counted in tokens: a step of long pairs takes many times as long as one of short pairs.
    """

    def __init__(self, task: Task, step: int) -> None:
        """Begin before step `step`, from 0."""
        self._task, self._began, self._read = task, time.monotonic(), 0
        epochs, within = divmod(step, task.steps_per_epoch)
        read = sum(self._tokens(one) for one in range(step - within, step))
        self._left = (task.config.epochs - epochs) * sum(pair.tokens for pair in task.pairs) - read

    def seconds_left(self, step: int) -> float:
        """Return the seconds that are left after step `step`, from 0. Call it once for each step."""
        tokens = self._tokens(step)
        self._read, self._left = self._read + tokens, self._left - tokens
        return (time.monotonic() - self._began) * self._left / self._read

    def _tokens(self, step: int) -> int:
        return sum(self._task.pairs[at].tokens for at in self._task.batch(step))
