"""The phase that measures how far the trained policy is from its reference, and scales it down to its KL budget."""

from training.rounds.phases.following import run_verb
from training.rounds.phases.work import Work


def is_measured(work: Work) -> bool:
    """Return whether KL is measured after training: there is a policy, and something to measure it on."""
    return work.round.trains and work.plan.config.kl_samples > 0


def scale(work: Work) -> None:
    """Measure KL, and scale the adapter where it is over the budget. Raises as `run_verb` does."""
    run_verb(work, "scale")
