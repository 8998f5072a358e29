"""Rounds done over without what was forgotten, one at a time."""

from annotate.models import Policy, Project
from training.models import Round
from training.rounds import state_machine


def retrain_next(project: Project) -> Round | None:
    """Queue the next round that is to be done over, or return None. Raises RoundError where it cannot be queued.

    One starts when the one before it is decided: it starts from the policy that stands for its own start now.
    """
    for original in rounds_to_retrain(project):
        return state_machine.retrain(original, _present_start(original), None)
    return None


def rounds_to_retrain(project: Project) -> list[Round]:
    """Return the promoted rounds that hold what was forgotten and were not done over yet, oldest first."""
    over = (*Round.LIVE, Round.State.READY, *Round.DECIDED)
    done = Round.objects.filter(project=project, retrains__isnull=False, state__in=over)
    waiting = project.rounds.filter(holds_forgotten=True, state=Round.State.PROMOTED)
    return list(
        waiting.exclude(pk__in=done.values("retrains")).select_related("start_policy").order_by("number")
    )


def _present_start(original: Round) -> Policy:
    """Return the policy that a round starts from when it is done over: the retrained one, where its start was."""
    start = original.start_policy
    made_by = Round.objects.filter(result_policy=start).first()
    if made_by is None or not made_by.holds_forgotten:
        return start
    again = made_by.retrained_by.filter(result_policy__isnull=False).order_by("-number").first()
    return again.result_policy if again is not None and again.result_policy is not None else start
