"""Reading ahead in a thread, beside what waits for the database."""

import threading
from collections.abc import Iterator

import pytest
from django.utils import translation

from annotate.imports.files.ahead import read_ahead
from tests.waiting import wait_for


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def counted(made: list[int]) -> Iterator[int]:
    for number in range(100):
        made.append(number)
        yield number


def test_items_come_in_their_order() -> None:
    with read_ahead(range(1_000), 2) as numbers:
        assert list(numbers) == list(range(1_000))
    assert "read ahead" not in names()


def test_an_error_is_raised_behind_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("torn")

    with read_ahead(broken(), 2) as numbers:
        assert next(numbers) == 1
        with pytest.raises(ValueError, match="torn"):
            next(numbers)


def test_no_more_is_read_ahead_than_asked_for() -> None:
    """Memory is bounded by it."""
    made: list[int] = []

    with read_ahead(counted(made), 2) as ahead:
        assert next(ahead) == 0
        wait_for(lambda: len(made) == 2, 10)
        assert next(ahead) == 1
        wait_for(lambda: len(made) == 3, 10)
    assert made == [0, 1, 2]


def test_the_next_item_is_made_while_the_caller_waits() -> None:
    """Until then the thread takes no processor from the caller."""
    made: list[int] = []

    with read_ahead(counted(made), 1) as ahead:
        assert next(ahead) == 0
        assert made == [0]
        ahead.go_on()
        wait_for(lambda: len(made) == 2, 10)
        ahead.go_on()  # one for each that was taken
        assert next(ahead) == 1
    assert made == [0, 1]


def test_a_thread_ends_with_its_block() -> None:
    """An import that ends early leaves no thread behind that waits for a place."""
    with read_ahead(range(1_000), 1) as numbers:
        assert next(numbers) == 0
        assert "read ahead" in names()
    assert "read ahead" not in names()


def test_sentences_of_a_thread_are_in_the_callers_language() -> None:
    def languages() -> Iterator[str | None]:
        yield translation.get_language()

    with translation.override("de"), read_ahead(languages(), 1) as found:
        assert list(found) == ["de"]
