"""Children of the engine, followed: progress to the database, files to the storage, until they end."""

import json
import logging
import subprocess
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError, connection

from training.engine.rundir import RunDirectory, storing
from training.rounds import child_process, state_machine, workers
from training.rounds.finishing import RoundLostError
from training.rounds.phases.work import ChildFailedError, Work, WorkerStoppingError

logger = logging.getLogger(__name__)


def run_verb(
    work: Work,
    verb: str,
    *arguments: str,
    files: RunDirectory | None = None,
    processes: int = 1,
    each_tick: Callable[[], None] = lambda: None,
) -> None:
    """Run a verb of the engine over the run directory, or over other `files`, unless it ended and its results are here.

    Raises ChildFailedError with the reason, RoundLostError, or WorkerStoppingError. The child is gone by then.
    """
    files = files or work.files
    if not files.has_done(verb):
        follow_child(work, files, verb, *arguments, processes=processes, each_tick=each_tick)


def follow_child(
    work: Work,
    files: RunDirectory,
    verb: str,
    *arguments: str,
    processes: int = 1,
    each_tick: Callable[[], None] = lambda: None,
) -> None:
    """Run `python -m training.engine VERB` over a run directory as a child, and report on it until it ends.

    Raises as `run_verb` does.
    """
    round_ = work.round
    log = files.root / f"{verb}.log"
    files.progress_file.unlink(missing_ok=True)
    with storing(log):
        output = log.open("wb")
    with output:
        child = child_process.start_child(
            verb, files.root, *arguments, processes=processes, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while not child_process.has_ended(child):
            try:
                each_tick()
                if not state_machine.heartbeat(round_, **read_progress(files, verb)):
                    raise RoundLostError
                if workers.is_stopping(round_.worker):
                    raise WorkerStoppingError
                if work.courier:
                    work.courier.tick()
            except (OperationalError, InterfaceError):
                # A database that is away for a moment must not end hours of training.
                logger.warning(
                    "%s: the database cannot be reached; its child goes on.", round_, exc_info=True
                )
                connection.close()
    finally:
        child_process.end_child(child)
    each_tick()
    if child.returncode != 0:
        raise ChildFailedError(child_process.explain_exit(verb, child.returncode, log))


def read_progress(files: RunDirectory, verb: str) -> dict[str, Any]:
    """Return the fields of Round that progress.json fills. Before the first one, the child is starting."""
    try:
        progress = json.loads(files.progress_file.read_text())
    except (OSError, ValueError):
        return {"phase": "starting", "step": 0, "total_steps": 0, "seconds_left": None}
    phase = progress["phase"]
    if files.root.name == "previous" and verb == "sample" and phase == "sampling":
        phase = "sampling the previous policy"
    if verb == "assist" and phase == "training":
        phase = "training a draft"
    return {
        "phase": phase,
        "step": progress["step"],
        "total_steps": progress["total_steps"],
        "seconds_left": progress["eta_seconds"],
    }
