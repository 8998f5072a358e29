"""Whole instances for tests: `manage.py demo` as a process, in a folder of its own."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent


def laptop(var: Path) -> dict[str, str]:
    """Return an environment with the site's own settings, SQLite and the filesystem broker, below `var`."""
    ours = {
        name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CELERY_BROKER_URL")
    }
    settings = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "WHETSTONE_VAR": str(var),
        "OMP_NUM_THREADS": "1",
    }
    return ours | settings


class Demo:
    """A running `manage.py demo`, with everything that it printed."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        command = [sys.executable, "manage.py", "demo", *arguments]
        self.output = Path(environment["WHETSTONE_VAR"]).with_suffix(f".{time.monotonic_ns()}.out")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.tree: list[psutil.Process] = []

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def logins(self) -> dict[str, str]:
        """Password by username, as printed."""
        rows = re.findall(r"^  \w+ +(\w+) +([a-z]+-[a-z]+-[a-z]+)$", self.printed, re.MULTILINE)
        return dict(rows)

    def wait_for(self, pattern: str, seconds: float = 240) -> re.Match[str]:
        """Wait until something is printed, and remember every process that runs by then."""
        wait_for(lambda: re.search(pattern, self.printed) or self.process.poll() is not None, seconds)
        found = re.search(pattern, self.printed)
        assert found, self.printed
        with contextlib.suppress(psutil.NoSuchProcess):
            self.tree = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def running(self) -> list[psutil.Process]:
        """Return the children that are left."""
        return [one for one in self.tree if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def stop(self) -> None:
        """Ask it to stop, and kill whatever does not."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(40)
        for process in self.tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()
