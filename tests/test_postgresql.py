"""Our part of the PostgreSQL backend."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import DataError, connection, transaction

from annotate.imports.records import Item
from annotate.imports.writing import write
from annotate.models import Project, User
from annotate.models.conflicts import again_on_race
from annotate.models.triggers import MISFIT, of_added
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
                met.wait(60)
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
        cursor.execute(added + of_added(MISFIT))
        plan = "\n".join(line for (line,) in cursor.fetchall())
        transaction.set_rollback(True)
    assert "SubPlan" in plan
    assert "Materialize" not in plan
    assert plan.count("Index Cond") >= 3, plan


def test_an_import_looks_rows_up_by_key_whatever_is_known() -> None:
    """Statistics of a site's other projects say that a new one is empty, for as long as its first import takes."""
    known = Project.objects.create(slug="known", name="Known")
    project = Project.objects.create(slug="new", name="New")
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append((sql, params))
        return execute(sql, params, many, context)

    def rows(start: int) -> list[tuple[int, Item]]:
        return [(n, Item(f"Prompt {start + n}", prompt_external_id=str(start + n))) for n in range(500)]

    with transaction.atomic(), connection.cursor() as cursor:
        write(known, rows(0))
        cursor.execute("ANALYZE annotate_prompt")
        write(project, rows(1_000))
        with connection.execute_wrapper(note):
            write(project, rows(2_000))
        looks = [(sql, params) for sql, params in asked if "AS wanted" in sql]
        plans = []
        for sql, params in looks:
            cursor.execute(f"EXPLAIN {sql}", params)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
        transaction.set_rollback(True)
    assert len(plans) == 2
    for plan, column in zip(plans, ("digest", "external_id"), strict=True):
        assert f"({column})::text = wanted.value" in plan.partition("Index Cond")[2].partition("\n")[0], plan


def test_tables_that_grew_in_an_import_are_counted() -> None:
    """PostgreSQL keeps plans, and those for empty tables read all rows."""
    project = Project.objects.create(slug="new", name="New")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE pg_class SET reltuples = -1 WHERE relname = 'annotate_prompt'")
        write(project, [(n, Item(f"Prompt {n}")) for n in range(500)])
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'annotate_prompt'")
        counted = cursor.fetchone()
        transaction.set_rollback(True)
    assert counted == (500,)
