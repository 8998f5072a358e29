"""The other connections to the test's database, on PostgreSQL."""

from django.db import connection

from tests.waiting import wait_for


def backends() -> list[int]:
    """Return their process ids."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def assert_no_connection_is_left() -> None:
    wait_for(lambda: not backends(), 60)


def end_connections() -> None:
    with connection.cursor() as cursor:
        for pid in backends():
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert_no_connection_is_left()
