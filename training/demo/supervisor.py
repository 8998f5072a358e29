"""The processes of an instance: a web server and a worker, children of one command that watches over them.

Nothing is left running. Each child leads a session of its own, so that Ctrl-C reaches the command alone, which
then stops its children in order. A killed command leaves a record, by which the next one ends its children.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil
from django.conf import settings

from primitives.files import write_whole

RESTARTS = 3  # deaths within RESTART_WINDOW seconds after which a service is not started again
RESTART_WINDOW = 60.0
PATIENCE = 12.0  # seconds that a service gets to stop by itself; a training writes a checkpoint meanwhile


def interrupt_on_signals() -> None:
    """Let a request to stop, or a closed terminal, end this process as Ctrl-C does: by a KeyboardInterrupt."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


class ProcessError(Exception):
    """A reason why a service cannot start or keep running, in a sentence for the user."""


@dataclass(frozen=True)
class Service:
    """A long-running program, with its name for users and the file of its output."""

    name: str
    command: tuple[str, ...]
    log: Path


def web_server(host: str, port: int, log: Path, *, workers: int = 2, threads: int = 4) -> Service:
    """Return the production server: gunicorn with several processes of several threads."""
    # What a request may take before its process is replaced, how long a stop waits for it, and how long a connection
    # is kept: longer than people read, since a verdict on one that is closing meanwhile would have to be sent again.
    limits = ("--timeout", "60", "--graceful-timeout", "5", "--keep-alive", "75", "--no-control-socket")
    where = ("--bind", f"{host}:{port}", "--workers", str(workers), "--threads", str(threads))
    command = (sys.executable, "-m", "gunicorn", "config.wsgi", *where, *limits)
    return Service("web server", command, log)


def worker(log: Path, *, beat: bool = True) -> Service:
    """Return a Celery worker on both queues. With `beat` it also runs the periodic tasks."""
    command = (sys.executable, "-m", "celery", "-A", "config", "worker", "--queues", "default,training")
    quiet = ("--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
    return Service("worker", (*command, *quiet, *(("--beat",) if beat else ())), log)


@dataclass
class _Child:
    service: Service
    process: subprocess.Popen[bytes]
    deaths: list[float] = field(default_factory=list)


class Supervisor:
    """A context manager that starts services, restarts those that die, and stops them all."""

    def __init__(
        self, record: Path, *, address: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        """Keep `record`, the file by which the next command finds what runs, even after a kill."""
        self.record = record
        self.address = address
        self.environment = dict(os.environ if environment is None else environment)
        self._children: list[_Child] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, service: Service) -> None:
        """Start a service. The output of its last run is kept as `<log>.1`."""
        service.log.parent.mkdir(parents=True, exist_ok=True)
        if service.log.exists():
            service.log.replace(service.log.with_name(service.log.name + ".1"))
        self._children.append(_Child(service, self._spawn(service)))
        self._write_record()

    def check(self, say: Callable[[str], None]) -> None:
        """Restart services that died since the last check. Raises ProcessError for one that keeps dying."""
        for child in self._children:
            code = child.process.poll()
            if code is None:
                continue
            now = time.monotonic()
            child.deaths = [death for death in child.deaths if now - death < RESTART_WINDOW] + [now]
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            if len(child.deaths) >= RESTARTS:
                raise ProcessError(
                    f"The {child.service.name} {how}, for the third time within a minute. "
                    f"Its last words, from {child.service.log}:\n{last_lines(child.service.log)}"
                )
            say(f"The {child.service.name} {how}; starting it again.")
            child.process = self._spawn(child.service)
            self._write_record()

    def watch(self, say: Callable[[str], None]) -> NoReturn:
        """Keep the services running until a KeyboardInterrupt. Raises ProcessError as `check` does."""
        while True:
            self.check(say)
            time.sleep(0.5)

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until `ready()` is true. Raises ProcessError if a service dies first, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            for child in self._children:
                if child.process.poll() is not None:
                    raise ProcessError(
                        f"The {child.service.name} did not start. Its last words, from {child.service.log}:\n"
                        f"{last_lines(child.service.log)}"
                    )
            if time.monotonic() > deadline:
                raise ProcessError(f"{what} within {seconds:.0f} seconds.")
            time.sleep(0.1)

    def stop(self, patience: float = PATIENCE) -> None:
        """Ask every service to stop, wait (a second Ctrl-C ends the wait), and end what is left of them."""
        trees = [_process_tree(child.process.pid) for child in self._children]
        for child in self._children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + patience
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            for child in self._children:
                child.process.wait(max(0.0, deadline - time.monotonic()))
        for tree in trees:
            _end_processes(tree)
        for child in self._children:
            child.process.wait()
        self._children.clear()
        self.record.unlink(missing_ok=True)

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        with service.log.open("ab") as log:
            return subprocess.Popen(
                service.command,
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _write_record(self) -> None:
        children = [ProcessRecord.now(child.service.name, child.process.pid) for child in self._children]
        parent = ProcessRecord.now("command", os.getpid())
        record = {
            "address": self.address,
            "parent": asdict(parent),
            "children": [asdict(c) for c in children],
        }
        write_whole(self.record, json.dumps(record, indent=2).encode(), durable=False)


@dataclass(frozen=True)
class ProcessRecord:
    """A process as a record names it. Ids are reused, so the time it started counts too."""

    name: str
    pid: int
    created: float

    @classmethod
    def now(cls, name: str, pid: int) -> ProcessRecord:
        return cls(name, pid, _start_time(pid))

    def is_running(self) -> bool:
        return abs(_start_time(self.pid) - self.created) < 2  # clocks are set now and then

    def end(self, patience: float, *, with_children: bool = False) -> None:
        """Terminate it, if it is still the same process, and kill it after `patience` seconds."""
        if self.is_running():
            tree = _process_tree(self.pid)
            _end_processes(tree if with_children else tree[:1], patience)


@dataclass(frozen=True)
class Record:
    """The record that a supervisor keeps of itself. It is empty where the file is missing or torn."""

    address: str = ""
    parent: ProcessRecord | None = None
    children: tuple[ProcessRecord, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Record:
        try:
            data = json.loads(path.read_text())
            children = tuple(ProcessRecord(**child) for child in data["children"])
            return cls(str(data["address"]), ProcessRecord(**data["parent"]), children)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()


def end_leftovers(path: Path) -> list[str]:
    """End the children that the record at `path` names and that still run. Return their names."""
    ended = []
    for child in Record.read(path).children:
        if child.is_running():
            child.end(PATIENCE, with_children=True)
            ended.append(child.name)
    path.unlink(missing_ok=True)
    return ended


def require_port(host: str, port: int) -> None:
    """Check that a server can listen there. Raises ProcessError in one sentence with the way out."""
    if not 0 < port < 2**16:
        raise ProcessError(f"Port {port} does not exist; ports go from 1 to {2**16 - 1}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = port + 1 if port + 1 < 2**16 else 8000
                raise ProcessError(
                    f"Port {port} is in use by another program: stop that, or choose another port with "
                    f"`make demo PORT={other}`."
                ) from None
            raise ProcessError(f"{host} port {port} cannot be used: {error.strerror or error}.") from None


def is_answering(url: str) -> bool:
    """Return whether a GET of `url` on this machine gives a page. No proxy is asked."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def last_lines(log: Path) -> str:
    """Return the last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join(f"    {line}" for line in lines)


def _start_time(pid: int) -> float:
    """Return the start of a process in seconds since the epoch: 0 where there is none, or only its zombie."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def _process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _end_processes(processes: list[psutil.Process], patience: float = 3.0) -> None:
    """Terminate processes, then kill those that are left after `patience` seconds."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=patience)[1]:
        with suppress(psutil.Error):
            process.kill()
