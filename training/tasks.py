"""Celery's side of a round: fetch, call, return. What the calls do is in `rounds.py` and `runner.py`."""

from celery import shared_task

from annotate import queue
from config.celery import app
from training import presence, rounds, runner

app.steps["worker"].add(presence.Presence)


@shared_task(name=rounds.RUN_TASK)
def run_round(round_id: int) -> None:
    """Work on a queued round. A message that comes twice, or too late, finds nothing to claim."""
    claimed = rounds.claim_round(round_id, presence.own_name())
    if claimed is not None:
        runner.run(claimed)


@shared_task(name="training.tasks.sweep")
def sweep() -> None:
    """Every few seconds: rounds whose worker went silent, messages that were lost, claims whose lease ran out.

    The queue itself takes expired claims back before it says that nothing is left; here they come back also while
    there is other work, so that what goes first (a gate, a reserved comparison) is not held up by who left it.
    """
    rounds.sweep()
    queue.expire_claims()
