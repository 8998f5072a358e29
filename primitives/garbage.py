"""Python's search for garbage, for processes that make many objects and leave few."""

import gc

OBJECTS_AT_A_TIME = 10_000  # made between two looks: rows are made of many


def keep_what_is_loaded() -> None:
    """Never search what is loaded so far, and search the rest less often.

    A long export would spend a third of its time on the search.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS_AT_A_TIME, *gc.get_threshold()[1:])
