"""What is ours of the PostgreSQL backend."""

import psycopg
import pytest
from django.db import connection

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="is about PostgreSQL"),
]


def test_a_connection_that_the_server_closed_is_told_from_one_that_it_keeps() -> None:
    """A server that was restarted costs no request an error: the connection is made anew before it is used."""
    connection.ensure_connection()
    assert connection.is_usable()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    assert not connection.is_usable()
    connection.close()
    assert connection.is_usable() is False
    connection.ensure_connection()
    assert connection.is_usable()
