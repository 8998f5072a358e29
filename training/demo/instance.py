"""An instance of Whetstone under one folder, run by one command that prepares, serves, stops and resets it."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
from celery import current_app
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.urls import reverse

from config.apps import StaticFilesConfig
from config.settings import filesystem_broker
from training.demo import supervisor
from training.demo.supervisor import ProcessError, Record, Supervisor
from training.models import Worker

Say = Callable[[str], None]

# What an instance writes below var/, and a reset sets aside. The secret key and results such as loop.json stay;
# so do the broker's messages, which are hints about rows and mean nothing without them.
STATE = ("db.sqlite3*", "runs", "files", "logs", "demo-logins.json", "celerybeat-schedule*")
SET_ASIDE = "before-reset"


class AlreadyServingError(Exception):
    """A refusal: another command serves this folder. `address` is empty until that command has one."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def _record() -> Path:
    return settings.VAR / "instance.json"


def _lock() -> filelock.BaseFileLock:
    """Return the lock of the command that serves. The kernel drops it however that command ends."""
    return filelock.FileLock(settings.VAR / "instance.lock", blocking=False)


def serve(host: str, port: int, prepare: Callable[[], None], ready: Callable[[str], None], say: Say) -> None:
    """Run a web server and a worker until a KeyboardInterrupt.

    End what an earlier command left running, call `prepare`, start both, call `ready(address)`, and watch over them.
    Raises AlreadyServingError, or ProcessError with a sentence for the user.
    """
    try:
        lock = _lock().acquire()
    except filelock.Timeout:
        raise AlreadyServingError(Record.read(_record()).address) from None
    with lock:
        for name in supervisor.end_leftovers(_record()):
            say(f"Ended the {name} that an earlier command had left running.")
        supervisor.require_port(host, port)
        migrate()
        collect_static()
        prepare()
        connections.close_all()
        shown_host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
        address = f"http://{shown_host}:{port}/"
        logs = settings.VAR / "logs"
        with Supervisor(_record(), address=address) as running:
            running.start(supervisor.web_server(host, port, logs / "web.log"))
            running.start(supervisor.worker(logs / "worker.log"))
            page = address.rstrip("/") + reverse("login")
            running.wait_until(lambda: supervisor.is_answering(page), 90, f"Nothing answered at {page}")
            running.wait_until(lambda: bool(Worker.for_training()), 90, "No worker came up")
            connections.close_all()
            ready(address)
            running.watch(say)


@contextmanager
def own_worker(say: Say) -> Iterator[Callable[[], None]]:
    """Run a worker for this process alone. Yield a check that raises ProcessError if the worker cannot go on.

    With the filesystem broker its messages are in a folder of their own, so another worker of the same database is
    not disturbed. A broker that CELERY_BROKER_URL names is used as it is. Workers that a killed process left running
    are ended first.
    """
    workers = settings.VAR / "workers"
    workers.mkdir(exist_ok=True)
    for record in workers.glob("*/processes.json"):
        parent = Record.read(record).parent
        if parent is None or not parent.is_running():
            supervisor.end_leftovers(record)
            shutil.rmtree(record.parent, ignore_errors=True)
    environment = os.environ | {"WHETSTONE_SWEEP_SECONDS": "0"}  # other rounds are not its affair
    with tempfile.TemporaryDirectory(prefix="own-", dir=workers, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if settings.CELERY_BROKER_URL.startswith("filesystem:"):
            environment["CELERY_BROKER_URL"] = f"filesystem://{folder / 'broker'}"
            current_app.conf.broker_transport_options = filesystem_broker(folder / "broker")
        own = supervisor.worker(folder / "worker.log", beat=False)
        with Supervisor(folder / "processes.json", environment=environment) as running:
            running.start(own)
            running.wait_until(lambda: " ready." in own.log.read_text(), 90, "No worker came up")
            yield lambda: running.check(say)


def stop() -> list[str]:
    """Stop the command that serves this folder, or what it left behind. Return the names of what was ended."""
    record = Record.read(_record())
    ended = []
    if record.parent is not None and record.parent.is_running():
        record.parent.end(supervisor.PATIENCE + 5)
        ended = [child.name for child in record.children]
    return ended + supervisor.end_leftovers(_record())


def migrate() -> None:
    """Bring the database up to date. Raises ProcessError if it is damaged or cannot be reached."""
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except (DatabaseError, InconsistentMigrationHistory) as error:
        way_out = "Start over with `make demo RESET=1`; the old database is set aside."
        if not _keeps_own_database():
            way_out = "It is the one that DATABASE_URL names."
        raise ProcessError(f"The database cannot be used: {error}. {way_out}") from error


def collect_static() -> None:
    """Collect and compress the static files, which takes seconds, unless they are those of last time."""
    state = sorted(
        (path, stat.st_mtime_ns, stat.st_size)
        for finder in get_finders()
        for path, storage in finder.list(StaticFilesConfig.ignore_patterns)
        for stat in [Path(storage.path(path)).stat()]
    )
    fingerprint = hashlib.sha256(repr(state).encode()).hexdigest()
    stamp = settings.STATIC_ROOT / ".collected"
    if not stamp.exists() or stamp.read_text() != fingerprint:
        call_command("collectstatic", interactive=False, verbosity=0, clear=True)
        stamp.write_text(fingerprint)


def reset() -> None:
    """Set aside everything that the instance wrote, in one folder. Delete what the last reset set aside.

    Raises ProcessError if the database is not this folder's own.
    """
    if not _keeps_own_database():
        raise ProcessError("RESET=1 starts the database under var/ over, but DATABASE_URL names another one.")
    stop()
    connections.close_all()
    aside = settings.VAR / SET_ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for pattern in STATE:
        for path in settings.VAR.glob(pattern):
            path.rename(aside / path.name)


def _keeps_own_database() -> bool:
    return str(connection.settings_dict["NAME"]) == str(settings.VAR / "db.sqlite3")
