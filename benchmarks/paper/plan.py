"""A plan of runs, done one by one or by several processes.

It is a module of its own since a new process imports what it is to do, and cannot import a package's `__main__`.
"""

import contextlib
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper import runs
from benchmarks.paper.judges import EndpointJudge
from benchmarks.paper.setting import SETTINGS, Counts
from benchmarks.paper.world import World


@dataclass(frozen=True)
class Plan:
    """A plan of runs: a process is told it, and makes the rest itself."""

    model: str
    counts: Counts
    folder: Path
    judge: EndpointJudge | None
    until: float | None  # by the clock that all processes of a machine share

    @property
    def is_over(self) -> bool:
        """Return whether no run is to begin any more."""
        return self.until is not None and time.monotonic() >= self.until

    def world(self, seed: int) -> World:
        """Return a seed's world."""
        return World(SETTINGS[self.model](self.counts), seed, self.folder / str(seed))


def run_seed(plan: Plan, seed: int, workers: int) -> None:
    """Run all stages of a seed, those runs that have no file yet."""
    if workers > 1:
        # Of each process: a small model's products are too small to share.
        os.environ["OMP_NUM_THREADS"] = "1"
    for stage in runs.stages(plan.judge):
        missing = [name for name in stage if not (plan.folder / str(seed) / f"{name}.json").exists()]
        if plan.is_over:
            return
        if workers == 1 or len(missing) == 1:
            for name in missing:
                _say(seed, name, work(plan, seed, name))
            continue
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            asked = {pool.submit(work, plan, seed, name): name for name in missing}
            for done in as_completed(asked):
                _say(seed, asked[done], done.result())


def work(plan: Plan, seed: int, name: str) -> float:
    """Do one run, in whichever process, and return its processor seconds: 0 where the time is over."""
    if plan.is_over:
        return 0.0
    began = time.process_time()
    world = plan.world(seed)
    make = next(stage[name] for stage in runs.stages(plan.judge) if name in stage)
    with contextlib.redirect_stdout(None):  # the engine tells how each training goes
        runs.run(world, name, make)
    seconds = time.process_time() - began
    with (world.folder / "seconds.txt").open("a") as file:
        file.write(f"{seconds:.1f} {name}\n")
    return seconds


def _say(seed: int, name: str, seconds: float) -> None:
    print(f"seed {seed}: {name}, {f'{seconds:.0f} s' if seconds else 'left for the next start'}", flush=True)
