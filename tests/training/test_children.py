"""The engine's child processes: what they are given, and what is said when they end badly."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from annotate.models import Project
from tests.training.test_runner import LONG, once_training
from tests.waiting import wait_for
from training.rounds import child_process, runner, state_machine

SECRETS = {
    "DATABASE_URL": "postgresql://whetstone:secret@db/whetstone",
    "WHETSTONE_SECRET_KEY": "secret",
    "CELERY_BROKER_URL": "redis://:secret@broker",
    "WHETSTONE_CACHE_URL": "redis://:secret@broker",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "PGPASSWORD": "secret",
    "EMAIL_URL": "smtp://:secret@mail",
}
NEEDED = {
    "HF_TOKEN": "needed",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "https_proxy": "http://127.0.0.1:9",
    "LD_LIBRARY_PATH": "/nowhere",
    "PYTHONUNBUFFERED": "1",
    "OURS": "needed",
}


def test_a_child_is_given_no_secret_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    for name, value in (SECRETS | NEEDED).items():
        monkeypatch.setenv(name, value)
    settings.CHILD_ENVIRONMENT = ["OURS"]
    child = child_process.start_child(
        "sample", tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    given = wait_for(Path(f"/proc/{child.pid}/environ").read_text)
    child_process.end_child(child)
    environment = dict(entry.split("=", 1) for entry in given.split("\0") if entry)
    assert not environment.keys() & SECRETS.keys()
    assert "secret" not in "".join(environment.values())
    assert {name: environment.get(name) for name in NEEDED} == NEEDED
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.chaos
@pytest.mark.once  # the disk is the engine's
@pytest.mark.django_db
def test_a_disk_that_fills_up_while_training_is_said_and_resumed(ready_project: Project, owner: Any) -> None:
    round_ = state_machine.claim_round(
        state_machine.start(ready_project, owner, LONG).pk, "worker of the tests"
    )
    assert round_ is not None

    def fill(pid: int) -> None:
        """No file of the child grows any more, its log included."""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    thread = once_training(round_.run_dir, fill)
    runner.run(round_)
    thread.join()
    round_.refresh_from_db()
    assert round_.state == "failed"
    assert round_.reason == (
        f"Training failed: the disk is full, or {round_.run_dir.relative_to(settings.VAR.parent)} cannot be "
        "written; free some space and resume the round."
    )
    assert list(round_.run_dir.rglob("*.part")) == []
    state_machine.resume(round_, owner)
    again = state_machine.claim_round(round_.pk, "another worker")
    assert again is not None
    runner.run(again)
    again.refresh_from_db()
    assert (again.state, again.reason) == ("ready", "")
    assert "Resumed from the checkpoint" in (again.run_dir / "train.log").read_text()


def test_a_log_on_a_full_disk_changes_no_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "training.engine", "train", str(tmp_path)]
        done = subprocess.run(command, stderr=full, cwd=settings.BASE_DIR, check=False)
    assert done.returncode == 3


TRACEBACK = "Traceback (most recent call last):"


def traceback(error: str, prefix: str = "") -> str:
    return "".join(f"{prefix}{line}\n" for line in (TRACEBACK, '  File "x.py", line 1', "    work()", error))


def torchrun_log(said: str, *exits: int) -> str:
    """Return a log of torchrun: what its processes `said`, and their exit codes, that of the first to fail last."""
    lines = [f"  exitcode  : {code} (pid: {number})" for number, code in enumerate(exits, 4711)]
    failed = (
        "    raise ChildFailedError(\ntorch.distributed.elastic.multiprocessing.errors.ChildFailedError: "
    )
    return "\n".join([said, TRACEBACK, failed, "=" * 60, *lines, "=" * 60])


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (3, "error: beta must be greater than 0.\n", "Training failed: beta must be greater than 0."),
        (
            1,
            "Traceback (most recent call last):\n  File x\nRuntimeError: odd\n",
            "Training failed: RuntimeError: odd",
        ),
        (1, "", "Training failed: exit code 1."),
        (7, "error: The disk is full: x.\n", "Training failed: The disk is full: x."),
        (
            7,
            "Resumed from the checkpoint at step 5.\n",
            "Training failed: the disk is full, or {folder} cannot be written; free some space and resume the round.",
        ),
        (-11, "", "Training was ended by signal 11 (Segmentation fault)."),
        (
            1,
            torchrun_log("", -15, -9),
            "Training was killed (signal 9), as the system does when memory runs out; "
            "resume the round, with a smaller max_tokens if it happens again.",
        ),
        (
            1,
            torchrun_log("error: Out of memory: lower max_tokens.", -15, 9),
            "Training failed: Out of memory: lower max_tokens.",
        ),
        (
            1,
            torchrun_log(
                "ValueError: of a warning\n"
                + traceback("ImportError: no library")
                + traceback("RuntimeError: Connection closed", "[rank1]: "),
                *(-15, 1),
            ),
            "Training failed: ImportError: no library",
        ),
        (
            1,
            torchrun_log(
                traceback("KeyError: 'x'", "[rank0]: ")
                + traceback("RuntimeError: Connection closed", "[rank1]: ")
                + "[rank0]: During handling of the above exception, another exception occurred:\n"
                + traceback("AssertionError", "[rank0]: ")
                + traceback("RuntimeError: Connection lost", "[rank0]: "),
                *(-15, 1),
            ),
            "Training failed: AssertionError",
        ),
        (1, torchrun_log("Loading.", -15, 1), "Training failed: exit code 1."),
        (
            1,
            torchrun_log(traceback("RuntimeError: " + "odd " * 200), -15, 1),
            "Training failed: RuntimeError: " + "odd " * 120 + "odd …",
        ),
    ],
)
def test_the_reason_is_the_childs_last_word_in_one_line(
    code: int, log: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.log"
    path.write_text(log)
    assert child_process.explain_exit("train", code, path) == said.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The disk is full, or runs/reviews-1 cannot be written; free some space and resume the round.",
        ),
        (
            OSError(errno.EROFS, "Read-only file system"),
            "The disk is read-only, and runs/reviews-1 cannot be written; make it writable and resume the round.",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "storage/one.part"),
            "The disk is read-only, and storage/one.part cannot be written; make it writable and resume the round.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/reviews-1/a", None, "storage/a"),
            "The disk is full, or storage/a cannot be written; free some space and resume the round.",
        ),
        (ValueError("odd"), "The worker could not go on: ValueError: odd"),
    ],
)
def test_a_disk_that_the_worker_cannot_write_is_named(error: Exception, said: str) -> None:
    """The error of a write to an open file names no file: then it is the round's folder."""
    assert child_process.explain_error(error, Path("runs/reviews-1")) == said
