"""The phase that trains the adapter. Its metrics reach the database as they appear."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db.models import Max

from training.models import Metric, Round
from training.rounds import state_machine, workers
from training.rounds.finishing import RoundLostError
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import ChildFailedError, Work


def train(work: Work) -> None:
    """Train the adapter, unless an earlier attempt did. Raises as `run_verb` does."""
    round_, files = work.round, work.files
    if not files.has_done("train"):
        choose_processes(round_)
        tail = MetricsTail(round_, files.metrics)
        run_verb(work, "train", processes=round_.processes, each_tick=tail.read)
    if not files.has_done("train") or not files.adapter.is_dir():
        raise ChildFailedError("Training ended without an adapter.")


def choose_processes(round_: Round) -> None:
    """Decide in how many processes the round trains, one for each device. A retry keeps it: sums depend on it.

    Raises ChildFailedError on a worker that has too few devices for what was chosen, or what an earlier one began.
    """
    is_single = round_.processes == 1 or (not round_.processes and site.PROCESSES == "1")
    devices = {} if is_single else workers.probe_devices()
    has = gpus = len(devices.get("gpus", []))
    if round_.processes:
        has = gpus or devices.get("cpu", {}).get("threads", 0)
    else:
        round_.processes = max(1, gpus if site.PROCESSES == "all" else int(site.PROCESSES))
        if not state_machine.heartbeat(round_, processes=round_.processes):
            raise RoundLostError
    if 0 < has < round_.processes:
        raise ChildFailedError(
            f"The round trains on {round_.processes} devices, and its worker has {has}; resume it where there are more."
        )


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
        # Further than any attempt before: not a round that kills its workers.
        if rows[-1]["step"] > self.furthest:
            self.furthest = rows[-1]["step"]
            state_machine.heartbeat(self.round, losses=0)
