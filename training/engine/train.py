"""The verb `train`: a run directory from its pairs to its adapter, in one run or in several.

In a directory with a checkpoint, training resumes. It ends with the adapter and the metrics of an uninterrupted
run, byte for byte on a CPU, but for the measured `pairs_per_second`.
"""

import contextlib
import json
import time
from typing import Any

import torch

from training.engine.adapters.loading import save_adapter
from training.engine.config import TrainConfig
from training.engine.errors import DivergedError
from training.engine.model.base import choose_device, set_threads
from training.engine.optimize import checkpoints, distributed
from training.engine.optimize.checkpoints import Position
from training.engine.optimize.distributed import Processes
from training.engine.optimize.health import diagnose, explain_beginning
from training.engine.optimize.interrupts import Interrupts
from training.engine.optimize.journal import Journal, Pace, Recorder
from training.engine.optimize.memory import peak_of
from training.engine.optimize.mismatching import reference_point
from training.engine.optimize.reference import shared_logps
from training.engine.optimize.state import State
from training.engine.optimize.steps import backward, step_metrics, update
from training.engine.optimize.task import Task
from training.engine.preparation import ROWS, Preparation, Sources, prepare, read_sources
from training.engine.rundir import RunDirectory
from training.engine.score import check_finite, held_out_figures
from training.engine.trackers import check_installed, open_trackers


def train(run: RunDirectory) -> None:
    """Train in `run` and write adapter/, metrics.jsonl and done.json. Return at once if that is done already.

    Raises EngineError subclasses, each with a sentence and an exit code. The next start continues from what was
    computed.
    """
    config = run.read_config()
    set_threads(config)
    processes = distributed.join(choose_device(config), in_step=config.shard)
    try:
        with run.locked() if processes.is_first else contextlib.nullcontext(), Interrupts() as interrupts:
            _train(run, config, processes, interrupts)
    finally:
        distributed.leave(processes)


def _train(run: RunDirectory, config: TrainConfig, processes: Processes, interrupts: Interrupts) -> None:
    """Train from the last checkpoint, or from the start adapter, to the last step."""
    journal = Journal(run, speaks=processes.is_first)
    journal.report("loading")
    check_installed(config)
    sources = read_sources(run, config, processes)
    if is_trained(run, sources):
        journal.say("This run is done: nothing to train.")
        return
    prepared = prepare(run, config, sources, processes, journal)
    task = prepared.task
    before = figures_before(task)
    state, position = resume(run, prepared, journal)
    tracking = None
    if processes.is_first and config.trackers:
        # Of the same run, even when its rows change.
        content = sorted(value for name, value in prepared.fingerprint.items() if name != ROWS)
        tracking = open_trackers(run, config, content, position.step, journal.note)
    with Recorder(
        run, position, prepared.fingerprint, writes=processes.is_first, tracking=tracking
    ) as recorder:
        interrupts.on_stop(lambda: recorder.save(state))
        with journal.timed("training"):
            pace = Pace(task, state.step)
            evaluate_if_due(task, state, recorder, interrupts)  # a stop may have come before it
            while not is_over(task, state):
                started = time.perf_counter()
                figures = task.budget.fit(lambda: backward(task, state))
                with interrupts.held():  # a stop finds the step wholly done or not begun
                    update(task, state, figures)
                    speed = figures.pairs.shape[1] / (time.perf_counter() - started)
                    recorder.add_metrics(step_metrics(task, state, figures) | {"pairs_per_second": speed})
                check_skipped(task, state)
                evaluate_if_due(task, state, recorder, interrupts)
                if state.step % config.checkpoint_steps == 0 and state.step < task.total_steps:
                    with interrupts.held():
                        recorder.save(state)
                journal.report("training", state.step, task.total_steps, pace.seconds_left(state.step - 1))
        recorder.sync()
        check_moved(state)
        keep_best(task, state, journal)
        finish(run, sources, prepared, state, journal, before=before)


def is_trained(run: RunDirectory, sources: Sources) -> bool:
    """Return whether the run holds the adapter of these very sources."""
    done = run.read_done().get("train", {})
    known = (sources.fingerprint, sources.fingerprint | sources.earlier)
    return done.get("fingerprint") in known and run.adapter.is_dir()


def resume(run: RunDirectory, prepared: Preparation, journal: Journal) -> tuple[State, Position]:
    """Return the state of the newest whole checkpoint, with its position, or those before the first step.

    Raises StaleCheckpointError if the checkpoint is that of another training.
    """
    task = prepared.task
    state = State.initial(task.config, task.scorer.model, prepared.loaded.dtype)
    position = Position(0, 0, 0, 0)
    found = checkpoints.load_latest(run.checkpoints, prepared.fingerprint, prepared.earlier)
    if found:
        position, tensors, torn = found
        state.load(tensors)
        state.step, state.evaluated = position.step, position.evaluated
        journal.note(f"Resumed from the checkpoint at step {position.step}.")
        for name in torn:
            journal.note(f"Checkpoint {name} is torn and was passed over.")
    task.processes.wait()  # the first process may write from here on
    return state, position


def check_skipped(task: Task, state: State) -> None:
    """Stop a run that skipped too many steps. Raises DivergedError."""
    if state.skipped > task.config.max_skipped_steps:
        raise DivergedError(
            f"{state.skipped} steps gave a loss or gradient that is not finite, more than max_skipped_steps;"
            " lower learning_rate or set dtype to float32."
        )


def check_moved(state: State) -> None:
    """Refuse an adapter that no step has changed. Raises DivergedError."""
    if state.step and state.skipped == state.step:
        raise DivergedError(
            f"Each of the {state.step} steps gave a loss or gradient that is not finite, so nothing was trained;"
            " lower beta or learning_rate, or set dtype to float32."
        )


def evaluate_if_due(task: Task, state: State, recorder: Recorder, interrupts: Interrupts) -> None:
    """Add the line of evals.jsonl that belongs to this step, unless it is there already."""
    every = task.config.eval_steps
    if not (every and task.heldout and state.step % every == 0 and state.step > state.evaluated):
        return
    figures = _heldout_figures(task, _heldout_logps(task), _heldout_point(task))
    with interrupts.held():
        recorder.add_evaluation({"step": state.step} | figures)
        state.evaluated = state.step
        if state.best:
            state.best.consider(figures["loss"], state.step, state.parameters)


def is_over(task: Task, state: State) -> bool:
    """Return whether the last step is done, or `early_stop` evaluations in a row found no better held-out loss."""
    patience = task.config.early_stop
    is_stopped = state.best is not None and patience > 0 and state.best.waited >= patience
    return is_stopped or state.step >= task.total_steps


def keep_best(task: Task, state: State, journal: Journal) -> None:
    """Put the best adapter by held-out loss in place of the last one, if that is to be kept."""
    if state.best is None:
        return
    if state.step < task.total_steps:
        journal.note(
            f"Stopped early, after step {state.step} of {task.total_steps}: the held-out loss was best at step"
            f" {state.best.step}."
        )
    if task.config.keep != "best":
        return
    if state.step > state.evaluated:
        figures = _heldout_figures(task, _heldout_logps(task), _heldout_point(task))
        state.best.consider(figures["loss"], state.step, state.parameters)
    if state.best.step and state.best.step != state.step:
        state.place(state.best.weights)
        journal.note(f"The adapter of step {state.best.step} is kept, of the lowest held-out loss.")


def check_trained(task: Task, state: State) -> dict[str, Any] | None:
    """Refuse a policy that its last steps have broken, and return the held-out figures of a sound one, if any.

    Raises DivergedError.
    """
    if not all(bool(weight.isfinite().all()) for weight in state.parameters.values()):
        raise DivergedError("The last steps left adapter weights that are not finite; lower learning_rate.")
    if task.heldout:
        logps = _heldout_logps(task)
        check_finite(task.heldout, logps, "trained policy")
        return _heldout_figures(task, logps, _heldout_point(task))
    row = task.groups(task.total_steps - 1)[:1]
    logps = shared_logps(task.scorer, task.pairs, row, task.processes)
    check_finite([task.pairs[at] for at in row[0]], logps, "trained policy")
    return None


def figures_before(task: Task) -> dict[str, Any] | None:
    """Return the held-out figures of the policy before the first step, if there are held-out pairs."""
    if not task.heldout:
        return None
    if task.config.reference == "start":  # which is this policy
        return _heldout_figures(task, task.heldout_reference, 0.0)
    return _heldout_figures(task, _heldout_logps(task), _heldout_point(task))


def finish(
    run: RunDirectory,
    sources: Sources,
    prepared: Preparation,
    state: State,
    journal: Journal,
    *,
    before: dict[str, Any] | None,
) -> None:
    """Check the trained policy, and write its adapter and done.json. Raises DivergedError, StorageError.

    `before` are the held-out figures of before the first step.
    """
    task, loaded = prepared.task, prepared.loaded
    journal.report("saving", task.total_steps, task.total_steps)
    after = check_trained(task, state)
    if not task.processes.is_first:
        return
    save_adapter(loaded.model, run.adapter)
    rows = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    findings = diagnose(rows, task.config)
    if rows and (why := explain_beginning(rows[0], task.config)):
        journal.note(why)
    summary = {
        "status": "trained",
        "steps": state.step,
        "kept_step": kept_step(task, state),
        "skipped_steps": state.skipped,
        "pairs": len(task.pairs),
        "left_out": prepared.left_out.to_dict(),
        "heldout": {
            "pairs": len(task.heldout),
            "left_out": prepared.heldout_left_out.to_dict(),
            "before": before,
            "after": after,
        },
        "health": findings,
        "events": journal.events,
        "packed": task.scorer.form == "packed",
        "rows": task.scorer.form,
        "device": loaded.device.type,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "processes": task.processes.world,
        "threads": torch.get_num_threads(),
        "seconds": round(journal.elapsed(), 3),
        "reference_seconds": round(journal.seconds["reference"], 3),
        "training_seconds": round(journal.seconds["training"], 3),
        "peak_memory_bytes": peak_of(loaded.device),
        "fingerprint": sources.fingerprint,
    }
    run.finish("train", summary, sources.digests, [run.adapter, run.metrics])
    for finding in findings:
        journal.say(f"{finding['message']} {finding['remedy']}")
    journal.report("done", task.total_steps, task.total_steps)


def kept_step(task: Task, state: State) -> int:
    """Return the step whose adapter is kept."""
    return state.best.step if state.best and state.best.step and task.config.keep == "best" else state.step


def _heldout_logps(task: Task) -> torch.Tensor:
    """Return log-probabilities (held-out pairs, 2) under the policy as it is now, in every process."""

    def compute() -> torch.Tensor:
        logps, groups = torch.empty_like(task.heldout_reference), task.heldout_groups()
        members = [at for group in groups for at in group]
        logps[members] = shared_logps(task.scorer, task.heldout, groups, task.processes)
        return logps

    return task.budget.fit(compute)


def _heldout_point(task: Task) -> float:
    """Return KTO's reference point of the held-out pairs under the policy as it is now; 0 for other losses."""
    if not task.mismatched:
        return 0.0
    first = len(task.pairs)
    return task.budget.fit(lambda: reference_point(task, range(first, first + len(task.heldout))))


def _heldout_figures(task: Task, logps: torch.Tensor, z0: float) -> dict[str, Any]:
    return held_out_figures(task.config, task.heldout, logps, task.heldout_reference, z0)
