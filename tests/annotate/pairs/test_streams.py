"""Rows of one statement that stays open, on a connection of its own."""

import time
from collections.abc import Generator
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.models import Value
from django.db.models.functions import Repeat

from annotate.models import Judgment
from annotate.pairs import streams
from annotate.pairs.streams import hasty, stream_rows
from tests.backends import assert_no_connection_is_left, backends, end_connections
from tests.factories import judge_all
from tests.waiting import wait_for

COUNT = 7
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite streams no statement"),
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ROWS_AT_A_TIME", 2)


@pytest.fixture
def rows(project: Any, owner: Any, make_comparisons: Any) -> Any:
    """Return a query of judgments, as rows."""
    make_comparisons(COUNT)
    judge_all(project, owner)
    return Judgment.objects.order_by("pk").values_list("pk", "verdict", "created_at")


def read(rows: Any) -> Generator[tuple[Any, ...], None, None]:
    return stream_rows(rows)  # type: ignore[return-value]


def test_in_haste_rows_are_those_of_the_query(rows: Any) -> None:
    with hasty():
        assert list(read(rows)) == list(rows)
    assert len(rows) == COUNT


def test_rows_are_those_of_when_the_first_was_read(rows: Any) -> None:
    expected = list(rows)
    with hasty():
        found = read(rows)
        first = next(found)
        Judgment.objects.all().delete()
        assert [first, *found] == expected


def test_a_statement_stays_open_only_in_haste(rows: Any) -> None:
    found = read(rows)
    next(found)
    assert_no_connection_is_left()  # one of a test before may be about to end
    with hasty():
        found = read(rows)
        next(found)
        wait_for(lambda: len(backends()) == 1, 60)
    found.close()


def test_a_connection_ends_with_a_reader_that_stops(rows: Any) -> None:
    with hasty():
        found = read(rows)
        next(found)
        found.close()
    assert_no_connection_is_left()


def test_a_connection_that_is_lost_is_an_error_of_the_database(rows: Any) -> None:
    wide = rows.annotate(more=Repeat(Value("x"), 1_000_000))  # than what fits into the socket between
    with hasty():
        found = read(wide.values_list("pk", "more"))
        next(found)
        end_connections()
        with pytest.raises(DatabaseError):
            list(found)


def test_without_another_connection_rows_come_as_usual(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")
    with hasty():
        assert list(read(rows)) == list(rows)


def test_conditions_that_nothing_meets_are_no_rows(rows: Any) -> None:
    with hasty():
        assert list(read(rows.filter(pk__in=[]))) == []


def test_a_limit_of_statements_does_not_count_the_readers_time(
    rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role may have one. The statement is open as long as the file is written."""
    options = {**connection.settings_dict["OPTIONS"], "options": "-c statement_timeout=200"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    wide = rows.annotate(more=Repeat(Value("x"), 1_000_000))  # than what fits into the socket between
    with hasty():
        found = read(wide.values_list("pk", "more"))
        next(found)
        time.sleep(0.5)
        assert len(list(found)) == COUNT - 1
