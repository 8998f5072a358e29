"""Celery's tasks: fetch, call, return. `state_machine.py`, `runner.py` and the modules of `usage` do the work."""

from celery import shared_task

from config.celery import app
from training.rounds import estimates, runner, state_machine, sweeping, workers
from training.usage import merging, trials
from training.usage.warm_engine import engine

app.steps["worker"].update((workers.Presence, sweeping.Sweeper))


@shared_task(name=state_machine.RUN_TASK)
def run_round(round_id: int) -> None:
    """Work on a queued round. A message that arrives twice, or too late, finds nothing to claim."""
    claimed = state_machine.claim_round(round_id, workers.own_name())
    if claimed is not None:
        engine.close()  # whose memory the round needs
        runner.run(claimed)


@shared_task(name=trials.TASK)
def answer_trial(trial_id: str) -> None:
    """Write the answers of a trial. A message that arrives twice, or too late, finds nothing to do."""
    trials.answer(trial_id, workers.own_name())


@shared_task(name=merging.TASK)
def merge_weights(merge_id: str) -> None:
    """Merge a policy's weights into its base model, unless another worker does."""
    merging.run(merge_id, workers.own_name())


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
    for usage in (trials, merging):
        usage.sweep()
        usage.look_after_all()
