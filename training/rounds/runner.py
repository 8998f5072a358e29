"""The work on a claimed round, between the database and the run directory: files, child processes, results.

Everything here can be cut off at any point and retried. Files are written whole, a verb that is in done.json is not
run twice, and the results reach the database in one transaction. Writes are fenced (`state_machine.heartbeat`,
`state_machine.advance`): a worker that lost its round, to a cancel or to another worker, finds out within a second and
ends its child.
"""

import json
import logging
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Max

from annotate.errors import RefusalError
from annotate.models import Policy
from annotate.pairs.snapshots import training_rows
from training.endpoints.writing import EndpointWriting
from training.engine.config import TrainConfig
from training.engine.errors import EngineError, disk_full
from training.engine.rundir import RunDirectory, storing, write_jsonl
from training.models import Endpoint, Metric, Round
from training.rounds import child_process, results, state_machine, workers
from training.rounds.finishing import RoundLostError, finish, previous_files
from training.rounds.plan import Plan, is_endpoint, on_this_machine, weights_of
from training.storage.courier import Courier, FencedError, clear_leftovers
from training.storage.objects import StorageFaultError

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0  # how often the database hears of progress, and the worker of a cancel
LAST_WORDS_SECONDS = 20.0  # for a state that is stored while the worker stops or the round fails


class WorkerStoppingError(Exception):
    """A request to the worker to stop."""


class ChildFailedError(Exception):
    """The failure of a child process. The message is the reason, in a sentence."""


def run(round_: Round) -> None:
    """Work on a round that `state_machine.claim_round` gave out, until it is ready, failed, or lost."""
    files = RunDirectory(round_.run_dir)
    courier = Courier(round_, files, keep=lambda: _keep(round_))
    try:
        clear_leftovers()
        prepare(round_, files, courier)
        if round_.trains:
            train(round_, files, courier)
            deliver(round_, courier)
            if round_.state == Round.State.TRAINING and not state_machine.advance(
                round_, Round.State.SAMPLING
            ):
                raise RoundLostError
        sample(round_, files, courier)
        deliver(round_, courier)
        finish(round_, files)
        courier.leave()
    except FencedError:
        logger.info("%s is no longer %s's; stopped working on it.", round_, round_.worker)
        clear_leftovers()
    except WorkerStoppingError:
        _deliver_last(round_, courier)
        state_machine.hand_back(round_)
    except StorageFaultError as error:
        state_machine.fail(round_, f"{error} Resume the round once the storage has what it needs.")
    except (ChildFailedError, EngineError, RefusalError) as error:
        if _deliver_last(round_, courier):
            courier.discard()  # before another worker of this machine may have it
        state_machine.fail(round_, str(error))
    except (OperationalError, InterfaceError):
        # The database is away. The heartbeat stops, so the sweep hands the round to the next worker.
        logger.exception("%s: the database cannot be reached.", round_)
    except Exception as error:
        logger.exception("%s failed in the worker.", round_)
        known = disk_full(error)
        state_machine.fail(
            round_, str(known or f"The worker could not go on: {type(error).__name__}: {error}")
        )
    finally:
        courier.close()


def _keep(round_: Round) -> bool:
    """Write the heartbeat. Return False if the round is lost. Raises WorkerStoppingError."""
    if workers.is_stopping(round_.worker):
        raise WorkerStoppingError
    return state_machine.heartbeat(round_)


def _deliver_last(round_: Round, courier: Courier) -> bool:
    """Store what there is while the round is still this worker's. Return False where it stays on this machine alone."""
    courier.keep = lambda: state_machine.heartbeat(round_)
    try:
        return courier.deliver(LAST_WORDS_SECONDS)
    except (StorageFaultError, FencedError, OSError) as error:
        logger.warning("%s: its last state could not be stored: %s", round_, error)
        return False


# --- Files -------------------------------------------------------------------------------------------------------


def prepare(round_: Round, files: RunDirectory, courier: Courier | None = None) -> None:
    """Write the files that `train` reads. On a later attempt they are there already, and stay."""
    if not state_machine.heartbeat(
        round_
    ):  # lost before it began: the child and the files are the successor's
        raise RoundLostError
    child_process.end_orphan(files)
    child_process.end_orphan(previous_files(files))
    if round_.attempts == 1 and files.root.exists():
        # Left behind by another database; nothing of it may be mistaken for this round's.
        files.root.rename(files.root.with_name(f"{files.root.name}.{time.time_ns()}.old"))
    plan = Plan.from_dict(round_.settings)
    if courier and courier.is_active:
        state_machine.heartbeat(round_, phase="fetching")
        courier.fetch()
        for adapter in _adapters(round_, plan):
            courier.fetch_adapter(adapter)
    files.write_config(plan.config if is_endpoint(round_.start_policy) else on_this_machine(plan.config))
    for path, held_out in ((files.heldout, True), (files.pairs, False)):
        if round_.snapshot is not None and not path.exists():
            base_model = plan.config.base_model
            write_jsonl(path, training_rows(round_.snapshot, held_out, plan.margin_scale, base_model))


def _adapters(round_: Round, plan: Plan) -> set[str]:
    """Return the names of the adapters that the round's children load."""
    opponent = round_.opponent.adapter if round_.opponent else ""
    return {name for name in (plan.config.start_adapter, opponent) if name}


def _config_of(policy: Policy, plan: Plan) -> TrainConfig:
    """Return the plan's configuration for another policy that writes, as this machine reads it."""
    config = replace(plan.config, **weights_of(policy))
    return config if is_endpoint(policy) else on_this_machine(config)


def deliver(round_: Round, courier: Courier) -> None:
    """Wait until the storage has what there is. Raises as `Courier.deliver` does."""
    if courier.is_active:
        state_machine.heartbeat(round_, phase="storing")
        courier.deliver()


def write_prompts(round_: Round, files: RunDirectory) -> None:
    """Draw the prompts for the new policy, and for the gate those of the one before. A retry keeps the first draw."""
    plan = Plan.from_dict(round_.settings)
    if previous_files(files).prompts.exists():
        _write_previous_config(round_, plan, files)  # which a resumed round may have changed
    if files.prompts.exists():
        return
    gate = results.gate_entries(round_, plan.gate_comparisons) if round_.trains else []
    fresh = results.fresh_entries(round_, plan.fresh_comparisons)
    of_opponent = gate if round_.trains else fresh
    if round_.opponent is not None and of_opponent:
        _write_previous_config(round_, plan, files)
        write_jsonl(previous_files(files).prompts, of_opponent)
    write_jsonl(files.prompts, gate + fresh)


def _write_previous_config(round_: Round, plan: Plan, files: RunDirectory) -> None:
    """Write the settings of the policy that is compared with, which writes by the same ones."""
    if round_.opponent is None:
        return
    config = _config_of(round_.opponent, plan)
    # Another seed: two policies that have not moved apart yet would write the same words from the same draws.
    sampling = replace(config.sampling, seed=config.sampling.seed + 1)
    previous_files(files).write_config(replace(config, sampling=sampling))


# --- The child processes -----------------------------------------------------------------------------------------


def train(round_: Round, files: RunDirectory, courier: Courier | None = None) -> None:
    """Train the adapter, unless an earlier attempt did. Metrics reach the database as they appear."""
    if "train" not in files.read_done():
        choose_processes(round_)
        tail = MetricsTail(round_, files.metrics)
        follow_child(round_, files, "train", tail.read, courier)
    if "train" not in files.read_done() or not files.adapter.is_dir():
        raise ChildFailedError("Training ended without an adapter.")


def choose_processes(round_: Round) -> None:
    """Decide in how many processes the round trains, one for each GPU. A retry keeps it: sums depend on it.

    Raises ChildFailedError on a worker that has too few GPUs for what an earlier one began.
    """
    if round_.processes == 1 or (not round_.processes and site.PROCESSES == "1"):
        gpus = 0  # what there is decides nothing
    else:
        gpus = len(workers.probe_devices().get("gpus", []))
    if not round_.processes:
        round_.processes = max(1, gpus if site.PROCESSES == "all" else int(site.PROCESSES))
        if not state_machine.heartbeat(round_, processes=round_.processes):
            raise RoundLostError
    if 0 < gpus < round_.processes:
        raise ChildFailedError(
            f"The round trains on {round_.processes} GPUs, and its worker has {gpus}; resume it where there are more."
        )


def sample(round_: Round, files: RunDirectory, courier: Courier | None = None) -> None:
    """Let the new policy write, and the one before it for the gate."""
    write_prompts(round_, files)
    previous = previous_files(files)
    for directory in (files, previous) if previous.prompts.exists() else (files,):
        if "sample" in directory.read_done() or not directory.prompts.stat().st_size:
            continue
        writer = round_.opponent if directory is previous else None if round_.trains else round_.start_policy
        if writer is not None and is_endpoint(writer):
            follow_endpoint(round_, directory, writer.endpoint)
        else:
            follow_child(round_, directory, "sample", courier=courier)


def follow_endpoint(round_: Round, files: RunDirectory, endpoint: Endpoint) -> None:
    """Let an endpoint write for a run directory, and report on it until it ends.

    Raises RefusalError with the reason, RoundLostError, or WorkerStoppingError. No request is under way by then.
    """
    sampling = asdict(Plan.from_dict(round_.settings).config.sampling)
    if files.root.name == "previous":
        sampling["seed"] += 1
    with EndpointWriting(files, endpoint, sampling) as writing:
        while not writing.wait(TICK_SECONDS):
            if not state_machine.heartbeat(round_, **writing.progress()):
                raise RoundLostError
            if workers.is_stopping(round_.worker):
                raise WorkerStoppingError


def follow_child(
    round_: Round,
    files: RunDirectory,
    verb: str,
    each_tick: Callable[[], None] = lambda: None,
    courier: Courier | None = None,
) -> None:
    """Run `python -m training.engine VERB` over a run directory as a child, and report on it until it ends.

    Raises ChildFailedError with the reason, RoundLostError, or WorkerStoppingError. The child is gone by then.
    """
    log = files.root / f"{verb}.log"
    files.progress_file.unlink(missing_ok=True)
    with storing(log):
        output = log.open("wb")
    with output:
        count = round_.processes if verb == "train" else 1
        child = child_process.start_child(
            verb, files.root, processes=count, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while not _has_ended(child):
            try:
                each_tick()
                if not state_machine.heartbeat(round_, **read_progress(files, verb)):
                    raise RoundLostError
                if workers.is_stopping(round_.worker):
                    raise WorkerStoppingError
                if courier:
                    courier.tick()
            except (OperationalError, InterfaceError):
                # A database that is away for a moment must not end hours of training.
                logger.warning("%s: the database cannot be reached; training goes on.", round_, exc_info=True)
                connection.close()
    finally:
        child_process.end_child(child)
    each_tick()
    if child.returncode != 0:
        raise ChildFailedError(child_process.explain_exit(verb, child.returncode, log))


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the next tick. Return True as soon as the child has ended."""
    try:
        child.wait(TICK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def read_progress(files: RunDirectory, verb: str) -> dict[str, Any]:
    """Return the fields of Round that progress.json fills. Before the first one, the child is starting."""
    try:
        progress = json.loads(files.progress_file.read_text())
    except (OSError, ValueError):
        return {"phase": "starting", "step": 0, "total_steps": 0, "seconds_left": None}
    phase = progress["phase"]
    if files.root.name == "previous" and verb == "sample" and phase == "sampling":
        phase = "sampling the previous policy"
    return {
        "phase": phase,
        "step": progress["step"],
        "total_steps": progress["total_steps"],
        "seconds_left": progress["eta_seconds"],
    }


class MetricsTail:
    """The copy of metrics.jsonl in Metric rows, made as lines appear. Lines that a resumed run repeats win."""

    def __init__(self, round_: Round, path: Path) -> None:
        self.round, self.path = round_, path
        self.offset, self.last_line = 0, b""
        self.furthest = round_.metrics.aggregate(step=Max("step"))["step"] or 0

    def read(self) -> None:
        """Copy the whole lines since the last call, or all of them if the log was cut back meanwhile."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.offset - len(self.last_line))
            if file.read(len(self.last_line)) != self.last_line:
                # Cut back to a checkpoint, and perhaps longer again than it was: the size alone would not tell.
                self.offset = file.seek(0)
            lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        if not lines:
            return
        self._store([json.loads(line) for line in lines])
        self.offset += sum(map(len, lines))
        self.last_line = lines[-1]

    def _store(self, rows: list[dict[str, Any]]) -> None:
        Metric.objects.bulk_create(
            [Metric(round=self.round, step=row["step"], values=row) for row in rows],
            update_conflicts=True,
            unique_fields=["round", "step"],
            update_fields=["values"],
            batch_size=500,
        )
        if (
            rows[-1]["step"] > self.furthest
        ):  # further than any attempt before: not a round that kills its workers
            self.furthest = rows[-1]["step"]
            state_machine.heartbeat(self.round, losses=0)
