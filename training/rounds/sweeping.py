"""The periodic sweep: rounds whose worker went silent, messages that were lost, claims whose lease ran out.

Beat asks for it, and each worker's main process does it when it is overdue. So it depends on no single process and
no single clock. Two at once do no harm: each move is one UPDATE that names what it leaves.
"""

import logging
import threading
from datetime import timedelta
from typing import Any

from celery import bootsteps
from django.conf import settings as site
from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from annotate.queueing import queue
from training.models import Round, Sweep
from training.rounds import state_machine, workers
from training.standings.gates import stop_settled

logger = logging.getLogger(__name__)

MAX_LOSSES = 3  # a round that has silenced so many workers in a row fails, rather than being tried for ever


def sweep(by: str) -> None:
    """Take back rounds and claims, stop gates that are decided, and record the sweep.

    The queue itself takes expired claims back before it says that nothing is left. Here they come back even while
    there is other work. So urgent comparisons (of a gate, or reserved) do not wait for annotators who left.
    """
    sweep_rounds()
    stop_gates()
    queue.expire_claims(now=Now())
    Sweep.record(by)


def sweep_rounds(among: QuerySet[Round] | None = None) -> None:
    """Take rounds back from workers that went silent, and send the messages of queued rounds that were lost.

    Look at all rounds, or at those `among` them. Safe to run at any time, twice, and in two places at once.
    """
    among = Round.objects.all() if among is None else among
    silence = timedelta(seconds=site.SILENT_SECONDS)
    running, queued = among.filter(state__in=Round.RUNNING), among.filter(state=Round.State.QUEUED)
    # Written while the database's clock was ahead: the silence counts from now on.
    running.filter(heartbeat_at__gt=Now() + silence).update(heartbeat_at=Now())
    for round_ in running.filter(heartbeat_at__lt=Now() - silence):
        _take_back(round_)
    is_lost = Q(enqueued_at__lt=Now() - silence) | Q(enqueued_at__gt=Now() + silence)
    for round_ in queued.filter(is_lost | Q(enqueued_at=None)):
        state_machine.send(round_.pk)


def stop_gates() -> None:
    """Withdraw what is left of gates that are decided, so that no annotator judges what changes nothing."""
    for round_ in Round.objects.filter(
        state=Round.State.READY, gate__open=True, gate_level__isnull=False
    ).distinct():
        stop_settled(round_)


def _take_back(round_: Round) -> None:
    fence = {
        "attempts": round_.attempts,
        "heartbeat_at__lt": Now() - timedelta(seconds=site.SILENT_SECONDS),
    }
    losses = round_.losses + 1
    if losses >= MAX_LOSSES:
        reason = f"Its worker went silent {losses} times in a row, the last one being {round_.worker}."
        state_machine.move(
            round_,
            Round.State.FAILED,
            message=reason,
            fence=fence,
            reason=reason,
            losses=losses,
            finished_at=Now(),
        )
        return
    message = f"{round_.worker} has been silent for {site.SILENT_SECONDS} s; another worker will go on."
    state_machine.move(
        round_, Round.State.QUEUED, message=message, fence=fence, losses=losses, enqueued_at=None
    )


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
