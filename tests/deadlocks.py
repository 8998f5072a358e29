"""Another transaction that stands in the way, so that PostgreSQL ends a deadlock by refusing one of the two."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from django.db import connection, transaction

from annotate.models import Project
from tests.meetings import is_waited_for
from tests.waiting import wait_for

MARKS = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer"),
]


# PostgreSQL looks for a deadlock once, so long after a transaction began to wait, and refuses the one that finds it.
FINDS_IT = "3s"  # enough for the other transaction to wait, too, on a busy machine
IS_SPARED = "60s"


@contextmanager
def in_the_way(project: Project, rows: Any) -> Iterator[None]:
    """Lock rows, and then the project once the caller waits for them. The caller is refused.

    It has taken the project and the rows in the other order.
    """
    stands = Event()
    with ThreadPoolExecutor(1) as pool, connection.cursor() as cursor:
        other = pool.submit(_stand, project, rows, stands)
        assert stands.wait(60)
        cursor.execute(f"SET deadlock_timeout = '{FINDS_IT}'")
        yield
        cursor.execute("RESET deadlock_timeout")
        other.result(60)


def _stand(project: Project, rows: Any, stands: Event) -> None:
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL deadlock_timeout = '{IS_SPARED}'")
            assert list(rows.select_for_update(of=("self",)))
            stands.set()
            wait_for(is_waited_for, 60)
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    finally:
        connection.close()
