"""Celery's side of a round: fetch, call, return. What the calls do is in `rounds.py` and `runner.py`."""

from celery import shared_task

from config.celery import app
from training import presence, rounds, runner, sweeping

app.steps["worker"].update((presence.Presence, sweeping.Sweeper))


@shared_task(name=rounds.RUN_TASK)
def run_round(round_id: int) -> None:
    """Work on a queued round. A message that comes twice, or too late, finds nothing to claim."""
    claimed = rounds.claim_round(round_id, presence.own_name())
    if claimed is not None:
        runner.run(claimed)


@shared_task(name="training.tasks.sweep")
def sweep() -> None:
    """What beat asks for every few seconds."""
    sweeping.sweep(presence.own_name())
