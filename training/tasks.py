"""Celery's tasks: fetch, call, return. `state_machine.py` and `runner.py` do the work."""

from celery import shared_task

from config.celery import app
from training.rounds import estimates, runner, state_machine, sweeping, workers

app.steps["worker"].update((workers.Presence, sweeping.Sweeper))


@shared_task(name=state_machine.RUN_TASK)
def run_round(round_id: int) -> None:
    """Work on a queued round. A message that arrives twice, or too late, finds nothing to claim."""
    claimed = state_machine.claim_round(round_id, workers.own_name())
    if claimed is not None:
        runner.run(claimed)


@shared_task(name=estimates.TASK)
def estimate(estimate_id: int) -> None:
    """Answer an estimate that was asked for. A message that arrives twice, or too late, finds nothing to claim."""
    claimed = estimates.claim(estimate_id, workers.own_name())
    if claimed is not None:
        estimates.answer(claimed)


@shared_task(name="training.tasks.sweep")
def sweep() -> None:
    """Sweep, as beat asks for every few seconds."""
    sweeping.sweep(workers.own_name())
