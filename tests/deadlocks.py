"""Another transaction that stands in the way, so that PostgreSQL ends a deadlock by refusing one of the two."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from django.db import connection, transaction

from annotate.models import Project
from tests.waiting import wait_for

MARKS = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer"),
]


@contextmanager
def in_the_way(project: Project, rows: Any) -> Iterator[None]:
    """Lock rows, and then the project once another transaction waits. It has taken them in the other order."""
    stands = Event()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_stand, project, rows, stands)
        assert stands.wait(10)
        yield
        other.result(10)


def _stand(project: Project, rows: Any, stands: Event) -> None:
    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
            return bool(cursor.fetchone()[0])

    try:
        with transaction.atomic():
            assert list(rows.select_for_update(of=("self",)))
            stands.set()
            wait_for(waits, 10)
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    finally:
        connection.close()
