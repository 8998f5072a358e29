"""What is ours of the PostgreSQL backend."""

import time

import psycopg
import pytest
from django.db import connection

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="is about PostgreSQL"),
]


def test_a_connection_that_the_server_closed_is_told_from_one_that_it_keeps() -> None:
    """A server that was restarted costs no request an error: the connection is made anew before it is used."""
    own = connection.copy()
    own.ensure_connection()
    try:
        assert own.is_usable()
        with connection.cursor() as other:
            other.execute("SELECT pg_terminate_backend(%s)", [own.connection.info.backend_pid])
        deadline = time.monotonic() + 10  # the server ends it in its own time
        while own.is_usable():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        own.close()
        assert not own.is_usable()
        own.ensure_connection()
        assert own.is_usable()
    finally:
        own.close()


def test_a_health_check_asks_the_server_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.ensure_connection()
    monkeypatch.setattr(psycopg.Cursor, "execute", lambda *_args, **_how: pytest.fail("it asked"))
    assert connection.is_usable()
