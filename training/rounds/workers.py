"""The presence of Celery workers, recorded by a bootstep in each worker's main process, and messages to them.

The main process writes its Worker row every few seconds from a thread of its own. So a worker that is busy with a
task still counts as present. Asking over the broker (`inspect ping`) would need a broker that answers, and would
hold up the page that asks.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import bootsteps, current_app, signals
from django.conf import settings as site
from django.db import DatabaseError, connection
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from kombu.exceptions import ChannelError, KombuError

from primitives.files import write_whole
from training.models import Round, Worker
from training.rounds.child_process import child_environment
from training.rounds.starts import RoundError

logger = logging.getLogger(__name__)
KEPT = timedelta(days=1)
RESTART = timedelta(minutes=5)  # in which a worker that was seen is expected back

_own_name = ""
PROBE_SECONDS = 300  # for the import of PyTorch on a machine that is busy


def own_name() -> str:
    """Return the name of the worker that this process belongs to, or of the process itself outside of workers."""
    return _own_name or f"process {os.getpid()}"


def is_stopping(worker: str) -> bool:
    """Return whether that worker was asked to stop, so that its rounds should hand themselves back."""
    return Worker.objects.filter(name=worker, stopping=True).exists()


def send_message(task: str, key: int | str, life: timedelta) -> bool:
    """Give the broker the message of a task about the row `key`. Return False if the broker is away.

    A message that no worker took within its life expires, so that few pile up while every worker is busy.
    """
    try:
        current_app.send_task(task, args=[key], expires=life.total_seconds(), retry=False)
    except (KombuError, ChannelError, OSError) as error:
        logger.warning("The broker did not take %s for %s: %s", task, key, error)
        return False
    return True


def device_counts() -> dict[str, int]:
    """Return how many processes each present training worker can train in at once, by its name.

    That is one for each GPU. Where no worker has a GPU, it is one for each thread of the processor.
    """
    return _count_devices(Worker.for_training())


def _count_devices(training: Iterable[Worker]) -> dict[str, int]:
    found = {worker.name: worker.devices for worker in training}
    if any(devices.get("gpus") for devices in found.values()):
        return {name: len(devices.get("gpus", [])) for name, devices in found.items()}
    return {name: devices.get("cpu", {}).get("threads", 1) for name, devices in found.items()}


def check_devices(processes: int | None) -> None:
    """Refuse more processes than any running worker has devices for. Raises RoundError."""
    most = max(device_counts().values(), default=0)
    if (processes or 1) > max(1, most):
        sentence = _("No worker that is running has %(wanted)d devices. The most is %(most)d.")
        raise RoundError(sentence % {"wanted": processes, "most": most}, "processes")


def should_leave(round_: Round, worker: str) -> bool:
    """Return whether the worker has too few devices for the round, and another one has enough.

    That one is running, or it was a few minutes ago: a worker that restarts comes back and goes on.
    """
    if round_.processes < 2:
        return False
    lately = Worker.objects.seen_within(RESTART)
    counts = _count_devices(worker for worker in lately if "training" in worker.queues)
    own = counts.pop(worker, None)
    return own is not None and own < round_.processes <= max(counts.values(), default=0)


def probe_devices() -> dict[str, Any]:
    """Ask a child process for the devices of this machine, once for each start of it: the answer is kept in var/.

    Return {} if there is no answer, as on a machine without PyTorch.
    """
    file = Path(site.VAR) / "devices.json"
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        kept = {}
    machine = [_boot(), os.environ.get("CUDA_VISIBLE_DEVICES"), sys.prefix]
    if isinstance(kept, dict) and kept.get("machine") == machine:
        return dict(kept["devices"])
    command = [sys.executable, "-m", "training.engine", "devices"]
    try:
        told = subprocess.run(
            command,
            cwd=site.BASE_DIR,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=True,
        )
        devices = dict(json.loads(told.stdout))
        write_whole(file, json.dumps({"machine": machine, "devices": devices}).encode(), durable=False)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logger.warning("The devices of this machine could not be found out: %s", error)
        return {}
    return devices


def _boot() -> str:
    """Return what tells this start of this machine from others, as far as the system says."""
    try:
        return f"{socket.gethostname()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return socket.gethostname()


class Presence(bootsteps.StartStopStep):
    """The keeper of the worker's row, from the worker's start to its end."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        global _own_name  # noqa: PLW0603 - one worker per process; set before the pool forks, so tasks know it
        _own_name = self.worker_name = f"{worker.hostname}/{os.getpid()}"
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        queues = sorted(worker.app.amqp.queues.consume_from)
        self.thread = threading.Thread(target=self.run, args=(queues,), name="presence", daemon=True)
        self.thread.start()
        # Sent by the handler of SIGTERM itself: also a pool that works in the main thread learns of it at once.
        signals.worker_shutting_down.connect(self.announce_stop)

    def run(self, queues: list[str]) -> None:
        if "training" in queues:
            threading.Thread(target=self.tell_devices, name="devices", daemon=True).start()
        while not self.stopping.wait(site.HEARTBEAT_SECONDS if self.write(queues=queues) else 1):
            pass
        self.write(queues=queues, stopping=True)

    def tell_devices(self) -> None:
        """Write what the worker computes with, once that is found out."""
        devices = probe_devices()
        while not self.write(devices=devices) and not self.stopping.wait(1):
            pass

    def write(self, **fields: Any) -> bool:
        """Upsert the row. A database that is away for a moment must not end the worker."""
        try:
            Worker.objects.update_or_create(
                name=self.worker_name, defaults={"seen_at": Now(), "stopping": False, **fields}
            )
            Worker.objects.filter(seen_at__lt=Now() - KEPT).delete()
        except DatabaseError:
            logger.warning("The worker's presence could not be recorded.", exc_info=True)
            return False
        finally:
            connection.close()
        return True

    def announce_stop(self, **_signal: Any) -> None:
        self.stopping.set()

    def close(self, worker: Any) -> None:
        """Record the stop. Celery calls this first when a worker stops, before it waits for its tasks."""
        self.stopping.set()
        if self.thread:
            self.thread.join(5)
