"""Our part of the PostgreSQL backend."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import DataError, connection, transaction

from annotate.models import User
from annotate.models.conflicts import again_on_race
from annotate.models.triggers import added_misfit
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="is about PostgreSQL"),
]


def test_a_closed_connection_is_told_from_a_kept_one() -> None:
    """A server that was restarted costs no request an error: the connection is replaced before it is used."""
    own = connection.copy()
    own.ensure_connection()
    try:
        assert own.is_usable()
        with connection.cursor() as other:
            other.execute("SELECT pg_terminate_backend(%s)", [own.connection.info.backend_pid])
        wait_for(lambda: not own.is_usable(), 10)  # the server ends it in its own time
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


def test_two_that_wait_for_each_other_both_get_through(owner: User, teammate: User) -> None:
    """The server ends one of the two; its transaction is rolled back whole, and retried."""
    met = threading.Barrier(2)
    attempts = []

    @again_on_race
    def take(first: User, second: User) -> str:
        attempts.append(first)
        with transaction.atomic():
            User.objects.select_for_update().get(pk=first.pk)
            if len(attempts) <= 2:
                met.wait(10)
            User.objects.select_for_update().get(pk=second.pk)
        return second.username

    def in_a_connection_of_its_own(*users: User) -> str:
        try:
            return take(*users)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(in_a_connection_of_its_own, owner, teammate)
        other = pool.submit(in_a_connection_of_its_own, teammate, owner)
        assert {one.result(30), other.result(30)} == {owner.username, teammate.username}
    assert len(attempts) == 3


def test_an_error_that_is_no_race_is_not_tried_again() -> None:
    attempts = []

    @again_on_race
    def fail() -> None:
        attempts.append(1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    with pytest.raises(DataError):
        fail()
    assert len(attempts) == 1


def test_new_comparisons_are_checked_by_key_whatever_is_known() -> None:
    """A vacuum of empty tables leaves the statistics that they are empty, and the first import is large."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE pg_class SET reltuples = 0, relpages = 40 WHERE relname LIKE 'annotate_%'")
        for setting in ("seqscan", "hashjoin", "mergejoin"):  # as in the trigger's function
            cursor.execute(f"SET LOCAL enable_{setting} = off")
        added = "EXPLAIN SELECT 1 FROM (SELECT * FROM annotate_comparison) added WHERE "
        cursor.execute(added + added_misfit())
        plan = "\n".join(line for (line,) in cursor.fetchall())
        transaction.set_rollback(True)
    assert "SubPlan" in plan
    assert "Materialize" not in plan
    assert plan.count("Index Cond") >= 3, plan
