"""The periodic sweep: rounds whose worker went silent, messages that were lost, claims whose lease ran out.

Beat asks for it, and each worker's main process does it where nobody has for a while, so that it depends on no
single process and no single clock. Two at once do no harm: each move is one UPDATE that names what it leaves.
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
    """Look after rounds and claims, and remember who did last.

    The queue itself takes expired claims back before it says that nothing is left; here they come back also while
    there is other work, so that what goes first (a gate, a reserved comparison) is not held up by who left it.
    """
    state_machine.sweep()
    queue.expire_claims(now=Now())
    Sweep.record(by)


class Sweeper(bootsteps.StartStopStep):
    """Sweeps from a thread of the worker's main process, by a clock that nobody can set."""

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
        """Comes first when a worker stops, before it waits for its tasks to end."""
        self.stopping.set()
