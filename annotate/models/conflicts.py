"""Database conflicts, which are retried, and updates of many rows in chunks, which meet fewer of them."""

import random
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import DatabaseError, IntegrityError
from django.db.models import Max, Min, QuerySet

ATTEMPTS = 10
ROWS_AT_A_TIME = 10_000  # of one UPDATE, so that annotators who judge meanwhile do not wait for long

P = ParamSpec("P")
T = TypeVar("T")

_is_retried = ContextVar("is_retried", default=False)  # by a function that is being called


class RaceError(IntegrityError):
    """Another transaction was faster. Roll back and look again, as when a unique index says so."""


def again_on_race(function: Callable[P, T]) -> Callable[P, T]:
    """Retry on a conflict, usually two tabs of the same user. The second was refused, and now sees the first.

    An index refuses it, or PostgreSQL in a deadlock. `function` opens its own transactions. Inside of another function
    that is retried it is called once: the outermost one is retried, with all that it does.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        if _is_retried.get():
            return function(*args, **kwargs)
        token = _is_retried.set(True)
        try:
            return retried(*args, **kwargs)
        finally:
            _is_retried.reset(token)

    def retried(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return function(*args, **kwargs)
            except DatabaseError as error:
                if not isinstance(error, IntegrityError) and not _is_deadlock(error):
                    raise
                time.sleep(random.uniform(0, 0.02))  # so that the two do not meet again
        return function(*args, **kwargs)

    return wrapper


def _is_deadlock(error: DatabaseError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == "40P01"


def update_in_parts(rows: "QuerySet[Any]", **changes: Any) -> int:
    """Do `rows.update(**changes)` in chunks of keys, and return how many rows changed. Not atomic."""
    return sum(again_on_race(part.update)(**changes) for part in in_parts(rows))


def in_parts(rows: "QuerySet[Any]") -> Iterator["QuerySet[Any]"]:
    """Yield rows in chunks of keys."""
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is not None:
        for start in range(ends["first"], ends["last"] + 1, ROWS_AT_A_TIME):
            yield rows.filter(pk__gte=start, pk__lt=start + ROWS_AT_A_TIME)
