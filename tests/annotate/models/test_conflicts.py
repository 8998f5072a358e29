"""Functions that are retried on a conflict of the database."""

import pytest

from annotate.models.conflicts import ATTEMPTS, RaceError, again_on_race


def test_a_conflict_is_retried_until_the_last_attempt() -> None:
    calls = []

    @again_on_race
    def write() -> None:
        calls.append(1)
        raise RaceError

    with pytest.raises(RaceError):
        write()
    assert len(calls) == ATTEMPTS


def test_only_the_outermost_function_is_retried() -> None:
    calls = {"outer": 0, "inner": 0}

    @again_on_race
    def inner() -> None:
        calls["inner"] += 1
        raise RaceError

    @again_on_race
    def outer() -> None:
        calls["outer"] += 1
        inner()

    with pytest.raises(RaceError):
        outer()
    assert calls == {"outer": ATTEMPTS, "inner": ATTEMPTS}
    with pytest.raises(RaceError):
        inner()
    assert calls["inner"] == 2 * ATTEMPTS
