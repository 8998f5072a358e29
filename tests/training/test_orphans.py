"""Children of the engine whose worker was killed: they end by themselves, wherever the next worker is."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from tests.training.workers import checkpoints, environment, is_alive, trainer_pid
from tests.waiting import wait_for
from training.engine.errors import LockedError
from training.engine.rundir import RunDirectory, write_jsonl

WORKER = """
import subprocess, sys
import django
django.setup()
from pathlib import Path
from training.rounds import child_process
verb, folder, processes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with (folder / "said").open("wb") as said:
    child = child_process.start_child(verb, folder, processes=processes, stdout=said, stderr=subprocess.STDOUT)
(folder / "child").write_text(str(child.pid))
child.wait()
"""


@pytest.fixture
def files(tmp_path: Path) -> RunDirectory:
    """Return a run directory that trains for many minutes."""
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    run.config_file.write_text(
        json.dumps(
            {
                "base_model": str(settings.BASE_DIR / "training" / "starter"),
                "epochs": 10_000,
                "batch_size": 4,
                "checkpoint_steps": 5,
                "threads": 1,
                "lora": {"r": 2},
            }
        )
    )
    pair = {"prompt": "A quiet drama", "chosen": " that moved me.", "rejected": " that bored me."}
    write_jsonl(run.pairs, [{"id": number, **pair} for number in range(8)])
    write_jsonl(run.prompts, [{"id": number, "prompt": "A quiet drama"} for number in range(100_000)])
    return run


@pytest.fixture
def orphan(files: RunDirectory) -> Iterator[Any]:
    """orphan("train"): start a worker with such a child, kill it once the child works, and return the child."""
    started: list[psutil.Process] = []

    def start(verb: str, is_working: Any, processes: int = 1) -> list[psutil.Process]:
        command = [sys.executable, "-c", WORKER, verb, str(files.root), str(processes)]
        with subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment()) as worker:
            try:
                child = wait_for(
                    lambda: (files.root / "child").exists() and (files.root / "child").read_text()
                )
                started.append(psutil.Process(int(child)))
                wait_for(is_working)
                started.extend(started[0].children(recursive=True))
            finally:
                worker.kill()
        return list(started)

    yield start
    for process in started:
        with suppress(psutil.Error):
            process.kill()


def is_free(files: RunDirectory) -> bool:
    """Return whether no process holds the lock. The kernel drops it a moment after a process has ended."""
    try:
        with files.locked():
            return True
    except LockedError:
        return False


@pytest.mark.once
def test_a_trainer_ends_with_its_worker_and_can_be_resumed(files: RunDirectory, orphan: Any) -> None:
    [trainer] = orphan("train", lambda: checkpoints(files.root) and trainer_pid(files.root))
    wait_for(lambda: not is_alive(trainer.pid), 60)
    wait_for(lambda: is_free(files), 10)
    assert "Stopped; train again goes on from the checkpoint." in (files.root / "said").read_text()
    assert checkpoints(files.root)
    assert not files.done.exists()


@pytest.mark.once
def test_a_sampler_ends_with_its_worker(files: RunDirectory, orphan: Any) -> None:
    [sampler] = orphan("sample", files.progress_file.exists)
    wait_for(lambda: not is_alive(sampler.pid), 60)
    assert not files.samples.exists()


@pytest.mark.chaos
@pytest.mark.once
def test_all_processes_of_a_training_end_with_their_worker(files: RunDirectory, orphan: Any) -> None:
    started = orphan("train", lambda: checkpoints(files.root) and trainer_pid(files.root), processes=2)
    assert len(started) >= 3
    wait_for(lambda: not any(is_alive(process.pid) for process in started), 90)
