"""A worker that is killed leaves no process behind: neither its pool nor its beat."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.training.workers import celery_worker, is_alive
from tests.waiting import wait_for

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

POOL_AND_BEAT = 3


def test_a_killed_worker_leaves_no_child(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with celery_worker(log) as worker:
        wait_for(lambda: " ready." in log.read_text())
        children = [child.pid for child in psutil.Process(worker.pid).children()]
        assert len(children) >= POOL_AND_BEAT  # and one that looks for devices, for a moment
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in children))
