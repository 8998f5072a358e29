"""Real Celery workers for tests: processes of their own, on the test's database and broker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.db import connection


def environment(**changes: str) -> dict[str, str]:
    """Return the environment in which a child process sees the rows of the test."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WHETSTONE_TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "OMP_NUM_THREADS": "1",
        # A test does not wait a minute for a silence.
        "WHETSTONE_HEARTBEAT_SECONDS": "1",
        "WHETSTONE_SILENT_SECONDS": "4",
        "WHETSTONE_SWEEP_SECONDS": "1",
        **changes,
    }


@contextmanager
def celery_worker(
    log: Path, *arguments: str, beat: bool = True, **changes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of both queues, with a beat of its own or not. Whatever is left of it is killed at the end."""
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "default,training"]
    command += ["--concurrency", "2", "--loglevel", "INFO", *(["-B"] if beat else []), *arguments]
    command += ["--without-gossip", "--without-mingle", "-n", f"{log.stem}@%h"]
    with log.open("ab") as output:
        worker = subprocess.Popen(
            command,
            cwd=settings.BASE_DIR,
            env=environment(**changes),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        kill_group(worker)
        print(log.read_text(errors="replace")[-6000:])  # pytest shows it if the test fails


def kill_group(worker: subprocess.Popen[bytes]) -> None:
    """Kill worker, pool and beat at once, as a power cut does."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def trainer_pid(run_dir: Path) -> int | None:
    """Return the process that holds a run directory's lock, once it trains."""
    try:
        metrics, holder = (run_dir / "metrics.jsonl").read_text(), (run_dir / ".lock").read_text()
    except FileNotFoundError:
        return None
    return int(holder.split()[0]) if metrics and holder else None


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the whole checkpoints of a run: the description of each is written last."""
    return sorted((run_dir / "checkpoints").glob("step-*.json"))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
