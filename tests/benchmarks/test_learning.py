"""The benchmark of what labels buy: seeds side by side, and what is left out."""

import json
from pathlib import Path

from benchmarks.learning import Job, run_jobs


def finished_job(folder: Path, seed: int) -> Job:
    """Return a job whose seed was run before."""
    found = {"recipe": "assisted", "seed": seed, "at": {}}
    (folder / f"praise-150-assisted-{seed}.json").write_text(json.dumps(found))
    return "assisted", "praise", 150, seed, folder


def test_seeds_that_were_run_before_are_taken_from_their_files(tmp_path: Path) -> None:
    jobs = [finished_job(tmp_path, seed) for seed in range(3)]
    assert [one["seed"] for one in run_jobs(jobs, processes=1, seconds=None)] == [0, 1, 2]


def test_what_is_not_done_in_time_is_left_out(tmp_path: Path) -> None:
    jobs = [finished_job(tmp_path, 0), ("assisted", "praise", 150, 1, tmp_path)]
    assert [one["seed"] for one in run_jobs(jobs, processes=1, seconds=0)] == [0]
    assert [one["seed"] for one in run_jobs(jobs, processes=1, seconds=0.5)] == [0]
