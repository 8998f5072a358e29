"""`make paper`: run what is missing, and write docs/paper.md with its figures."""

import argparse
import contextlib
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper import document, runs
from benchmarks.paper.judges import EndpointJudge
from benchmarks.paper.setting import SETTINGS, TINY, Counts
from benchmarks.paper.world import World

# A chat model writes and reads more slowly, and has 640 prompts in all.
COUNTS = {
    "starter": Counts(),
    "smollm2": Counts(
        labels=200,
        fresh=80,
        by_temperature=80,
        samples=8,
        assisted=600,
        updates=15,
        rollout=16,
        round_labels=70,
        judged=160,
    ),
}
FOLDER = Path("var/paper")


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--model", choices=SETTINGS, default="starter")
    parser.add_argument("--seeds", type=int, default=1, help="how often everything is done (1)")
    parser.add_argument(
        "--minutes", type=float, help="begin no run after so long; the next start goes on from there"
    )
    parser.add_argument("--workers", type=int, help="runs side by side (starter: the cores; smollm2: 1)")
    parser.add_argument(
        "--tiny", action="store_true", help="counts so small that nothing is shown but that it runs"
    )
    parser.add_argument("--folder", type=Path, help="where runs are kept (var/paper/MODEL)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where paper.md goes (docs)")
    parser.add_argument(
        "--judge-url", default=os.environ.get("JUDGE_URL"), help="an endpoint, such as http://host/v1"
    )
    parser.add_argument("--judge-model", default=os.environ.get("JUDGE_MODEL", "default"))
    given = parser.parse_args()
    counts = TINY if given.tiny else COUNTS[given.model]
    folder = given.folder or FOLDER / f"{given.model}{'-tiny' if given.tiny else ''}"
    workers = given.workers or (len(os.sched_getaffinity(0)) if given.model == "starter" else 1)
    setting = SETTINGS[given.model](counts)
    judge = None
    if given.judge_url:
        judge = EndpointJudge(
            given.judge_url, given.judge_model, setting.what, os.environ.get("JUDGE_KEY", "")
        )
    until = time.monotonic() + 60 * given.minutes if given.minutes is not None else None
    plan = Plan(given.model, counts, folder, judge, until)
    for seed in range(given.seeds):
        run_seed(plan, seed, workers)
    worlds = [plan.world(seed) for seed in range(given.seeds)]
    if not runs.has(worlds[0], "base"):
        raise SystemExit("Nothing was run yet. Start again with more time.")
    print(f"Wrote {document.write(worlds, given.docs, tiny=given.tiny)}.")


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


if __name__ == "__main__":
    main()
