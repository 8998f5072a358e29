"""What meets in the database: it is made again."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, IntegrityError

ATTEMPTS = 10

P = ParamSpec("P")
T = TypeVar("T")


class Race(IntegrityError):
    """Somebody else was faster: roll back and look again, as when a unique index says so."""


def again_on_race(function: Callable[P, T]) -> Callable[P, T]:
    """Try again when two met, mostly two tabs of one person: the second was refused, and now sees the first.

    An index refuses it, or PostgreSQL, where the two wait for each other. `function` opens its own transactions.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
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
