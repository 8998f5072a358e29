"""The thread that waits for signals ends with the training, and keeps nothing of it."""

import threading
import weakref

from training.engine.optimize.interrupts import Interrupts


class Model:
    """A stand-in for weights, which must not be freed by a thread while the interpreter ends."""

    def save(self) -> None:
        raise AssertionError("no signal was sent")


def test_no_thread_outlives_the_training_or_holds_its_model() -> None:
    before, model = threading.enumerate(), Model()
    with Interrupts() as interrupts:
        interrupts.on_stop(model.save)
        assert len(threading.enumerate()) == len(before) + 1
    assert threading.enumerate() == before
    held = weakref.ref(model)
    del model
    assert held() is None
