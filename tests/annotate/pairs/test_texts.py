"""Texts of comparisons, read ahead on a connection of their own."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import DatabaseError, connection

from annotate.models import Comparison
from annotate.pairs import texts
from annotate.pairs.texts import read_ahead, read_texts
from tests.backends import assert_no_connection_is_left, backends, end_connections
from tests.factories import compare

ROWS = 7
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite reads nothing ahead")
committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "AT_A_TIME", 2)
    monkeypatch.setattr(texts, "ASKED_AT_A_TIME", 2)


@pytest.fixture
def keys(project: Any) -> list[int]:
    """Return comparisons, the latest first."""
    made = [compare(project, f"Prompt {n}", f"Good „{n}“ 🙂", f"Bad {n}") for n in range(ROWS)]
    return [comparison.pk for comparison in reversed(made)]


def read(keys: list[int]) -> Iterator[tuple[list[int], dict[int, texts.Texts]]]:
    return read_ahead(keys, lambda key: key)


@committed
def test_each_row_comes_once_in_its_order_with_its_texts(keys: list[int]) -> None:
    found = list(read(keys))
    assert [key for some, _read in found for key in some] == keys
    assert {key: one for _some, read in found for key, one in read.items()} == read_texts(keys)
    assert [len(some) for some, _read in found] == [2, 2, 2, 1]


@committed
def test_no_rows_are_no_batches(project: Any) -> None:
    assert list(read([])) == []


def test_a_transaction_reads_what_it_has_written(keys: list[int]) -> None:
    assert [key for some, _read in read(keys) for key in some] == keys


@committed
@on_postgresql
def test_the_next_texts_are_asked_for_before_the_last_are_used(keys: list[int]) -> None:
    """The caller may ask the database on its own connection meanwhile."""
    assert_no_connection_is_left()  # one of a test before may be about to end
    with closing(read(keys)) as found:
        for some, texts_of in found:
            assert texts_of.keys() == set(some)
            assert Comparison.objects.filter(pk__in=some).count() == len(some)
            assert len(backends()) == 1
    assert_no_connection_is_left()


@committed
@on_postgresql
def test_a_connection_ends_with_a_reader_that_stops(keys: list[int]) -> None:
    found = read(keys)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert_no_connection_is_left()


@committed
@on_postgresql
def test_a_connection_ends_with_an_error_of_the_rows(keys: list[int]) -> None:
    def rows() -> Iterator[int]:
        yield from keys[:3]
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        list(read_ahead(rows(), lambda key: key))
    assert_no_connection_is_left()


@committed
@on_postgresql
def test_a_connection_that_is_lost_is_an_error_of_the_database(keys: list[int]) -> None:
    found = read(keys)
    next(found)
    end_connections()
    with pytest.raises(DatabaseError):
        list(found)


@committed
@on_postgresql
def test_without_another_connection_texts_are_read_in_turns(
    keys: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")
    assert [key for some, _read in read(keys) for key in some] == keys
