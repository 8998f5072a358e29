"""Reading ahead: an iterator that runs in a thread, beside the one that waits for the database."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

from django.utils import translation

T = TypeVar("T")


@contextmanager
def read_ahead(items: Iterable[T], most: int) -> Iterator[Iterator[T]]:
    """Yield an iterator over items that a thread makes, at most so many ahead. Its error is raised where it is met.

    The thread ends with the block. It is not to ask the database: a connection belongs to one thread.
    """
    ready: Queue[T | _End] = Queue(most)
    is_stopped = Event()
    language = translation.get_language()

    def put(item: T | _End) -> None:
        if not is_stopped.is_set():
            ready.put(item)

    def read() -> None:
        try:
            with translation.override(language):
                for item in items:
                    put(item)
                    if is_stopped.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
            put(_End(error))
        else:
            put(_End())

    thread = Thread(target=read, name="read ahead", daemon=True)
    thread.start()
    try:
        yield _received(ready)
    finally:
        is_stopped.set()
        while thread.is_alive():  # it may wait for a place
            _empty(ready)
            thread.join(0.01)


class _End:
    """The end of the items, or the error that ended them."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _received(ready: "Queue[T | _End]") -> Iterator[T]:
    while not isinstance(item := ready.get(), _End):
        yield item
    if item.error:
        raise item.error


def _empty(ready: "Queue[T | _End]") -> None:
    try:
        while True:
            ready.get_nowait()
    except Empty:
        pass
