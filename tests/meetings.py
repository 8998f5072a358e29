"""Two transactions at the same moment: one waits for what the other has locked."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

from django.db import connection, transaction

from tests.waiting import wait_for


def is_waited_for() -> bool:
    """Return whether another transaction waits for this one's locks. PostgreSQL alone can tell."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])


def wait_for_the_other(is_over: Callable[[], bool]) -> None:
    """Hold this transaction until the other one waits for it, or is over. On SQLite it has half a second for that."""
    if connection.vendor == "postgresql":
        wait_for(lambda: is_over() or is_waited_for(), 60, every=0.01)
        return
    with suppress(AssertionError):
        wait_for(is_over, 0.5, every=0.01)


class FirstToCommit:
    """An act in a transaction of another connection, which commits once this thread's transaction waits for it.

    If that waits for nothing, it commits when its `result` is asked for.
    """

    def __init__(self, pool: ThreadPoolExecutor, act: Callable[[], Any]) -> None:
        self._has_acted, self._may_commit = Event(), Event()
        self._done: Future[None] = pool.submit(self._run, act)
        assert self._has_acted.wait(60)

    def _run(self, act: Callable[[], Any]) -> None:
        try:
            with transaction.atomic():
                act()
                self._has_acted.set()
                wait_for_the_other(self._may_commit.is_set)
        finally:
            self._has_acted.set()
            connection.close()

    def result(self) -> None:
        """Let it commit, and raise what it raised."""
        self._may_commit.set()
        self._done.result(60)
