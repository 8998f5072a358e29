"""Python's search for garbage, for processes that make many objects and leave few."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS_AT_A_TIME = 10_000  # made between two looks: rows are made of many
MANY_AT_A_TIME = 100_000


def keep_what_is_loaded(objects: int = OBJECTS_AT_A_TIME) -> None:
    """Never search what is loaded so far, and search the rest each time that so many `objects` were made.

    A long export would spend a third of its time on the search.
    """
    gc.freeze()
    gc.set_threshold(objects, *gc.get_threshold()[1:])


@contextmanager
def many_objects() -> Iterator[None]:
    """Search hardly ever inside, where many objects are made and none is left."""
    usual = gc.get_threshold()
    keep_what_is_loaded(MANY_AT_A_TIME)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
