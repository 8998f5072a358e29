"""Rows a few at a time."""

from primitives.chunks import chunks


def test_rows_keep_their_order_and_the_last_chunk_is_shorter() -> None:
    assert list(chunks(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]


def test_no_rows_make_no_chunk() -> None:
    assert list(chunks([], 2)) == []


def test_a_chunk_is_read_when_it_is_asked_for() -> None:
    rows = iter(range(5))
    assert next(chunks(rows, 2)) == [0, 1]
    assert next(rows) == 2
