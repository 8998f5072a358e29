"""The periodic sweep: rounds whose worker went silent, messages that were lost, claims whose lease ran out.

Beat asks for it, and each worker's main process does it when it is overdue, so that it depends on no single process
and no single clock. Two at once do no harm: each move is one UPDATE that names what it leaves.
"""

import logging
import threading
from typing import Any

from celery import bootsteps
from django.conf import settings as site
from django.db import connection
from django.db.models.functions import Now

from annotate.queueing import queue
from training.models import Sweep
from training.rounds import state_machine, workers

logger = logging.getLogger(__name__)


def sweep(by: str) -> None:
    """Take back rounds and claims, and record the sweep.

    The queue itself takes expired claims back before it says that nothing is left. Here they come back even while
    there is other work, so that urgent comparisons (of a gate, or reserved) do not wait for annotators who left.
    """
    state_machine.sweep()
    queue.expire_claims(now=Now())
    Sweep.record(by)


class Sweeper(bootsteps.StartStopStep):
    """A thread of the worker's main process that sweeps, by a clock that cannot be set."""

    requires = (workers.Presence,)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.stopping = threading.Event()

    def start(self, worker: Any) -> None:
        if site.SWEEP_SECONDS:
            threading.Thread(target=self.run, name="sweeper", daemon=True).start()

    def run(self) -> None:
        while not self.stopping.wait(site.SWEEP_SECONDS):
            try:
                if Sweep.is_due(site.SWEEP_SECONDS):
                    sweep(workers.own_name())
            except Exception:  # the next one may succeed
                logger.warning("The sweep failed.", exc_info=True)
            finally:
                connection.close()

    def close(self, worker: Any) -> None:
        """Stop sweeping. Celery calls this first when a worker stops, before it waits for its tasks."""
        self.stopping.set()
