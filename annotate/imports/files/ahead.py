"""Reading ahead: an iterator that runs in a thread, beside the one that waits for the database."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

from django.utils import translation

T = TypeVar("T")


@contextmanager
def read_ahead(items: Iterable[T], most: int) -> Iterator["Ahead[T]"]:
    """Yield an iterator over items that a thread makes, at most so many ahead. Its error is raised where it is met.

    The thread ends with the block. It is not to ask the database: a connection belongs to one thread.
    """
    ahead: Ahead[T] = Ahead(most)
    thread = Thread(target=ahead.read, args=(items,), name="read ahead", daemon=True)
    thread.start()
    try:
        yield ahead
    finally:
        ahead.stop()
        thread.join()


class Ahead(Iterator[T]):
    """Items that a thread makes, each in its turn.

    Two threads that compute take as long as one that does both. So the thread waits with another item until the caller
    says that it is about to wait itself.
    """

    def __init__(self, most: int) -> None:
        self._turns = Semaphore(most)
        self._ready: SimpleQueue[T | _End] = SimpleQueue()
        self._owes_turn = self._is_stopped = False
        self._language = translation.get_language()

    def __next__(self) -> T:
        self.go_on()
        item = self._ready.get()
        if isinstance(item, _End):
            self._ready.put(item)
            raise item.error or StopIteration
        self._owes_turn = True
        return item

    def go_on(self) -> None:
        """Let the thread make an item in place of the one that was taken, now and not when the next one is taken."""
        if self._owes_turn:
            self._owes_turn = False
            self._turns.release()

    # --- The thread ----------------------------------------------------------------------------------------------

    def read(self, items: Iterable[T]) -> None:
        """Make the items."""
        error: BaseException | None = None
        try:
            with translation.override(self._language):
                source = iter(items)
                while self._has_turn():
                    self._ready.put(next(source))
        except StopIteration:
            pass
        except BaseException as met:  # noqa: BLE001 - raised again where the items are taken
            error = met
        self._ready.put(_End(error))

    def _has_turn(self) -> bool:
        """Wait for a turn. Return whether there is one: not if the caller has all that it wants."""
        self._turns.acquire()
        return not self._is_stopped

    def stop(self) -> None:
        """Let the thread end after the item that it makes."""
        self._is_stopped = True
        self._turns.release()


class _End:
    """The end of the items, or the error that ended them."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
