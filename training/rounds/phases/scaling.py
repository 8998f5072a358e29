"""The phase that measures how far the trained policy is from its reference, and scales it down to its KL budget."""

from training.rounds import state_machine
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import ChildFailedError, Work


def is_measured(work: Work) -> bool:
    """Return whether KL is measured after training: there is a policy, and something to measure it on."""
    return work.round.trains and work.plan.config.kl_samples > 0


def scale(work: Work) -> None:
    """Measure KL, and scale the adapter where it is over the budget. Raises as `run_verb` does.

    Without a budget the round does not depend on the measurement: one that fails is told in its history.
    """
    try:
        run_verb(work, "scale")
    except ChildFailedError as error:
        if work.plan.config.kl_budget is not None:
            raise
        state_machine.note(work.round, work.round.state, f"KL was not measured. {error}", None)
