"""The thread that waits for signals ends with the training, and keeps nothing of it."""

import threading
import weakref

from training.engine.optimize.interrupts import Interrupts


class Model:
    """A stand-in for weights, which must not be freed by a thread while the interpreter ends."""

    def save(self) -> None:
        raise AssertionError("no signal was sent")


def test_no_thread_outlives_the_training_or_holds_its_model() -> None:
    before, model = set(threading.enumerate()), Model()  # others of this process may end meanwhile
    with Interrupts() as interrupts:
        interrupts.on_stop(model.save)
        (thread,) = set(threading.enumerate()) - before
    assert not thread.is_alive()
    held = weakref.ref(model)
    del model
    assert held() is None
