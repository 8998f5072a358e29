"""Rounds done over without what was forgotten, one at a time."""

from django.utils.translation import gettext as _

from annotate.models import Policy, Project
from training.models import Round
from training.rounds import state_machine
from training.rounds.lineage import find_references
from training.rounds.starts import RoundError


def retrain_next(project: Project) -> Round | None:
    """Queue the next round that is to be done over, or return None. Raises RoundError where it cannot be queued.

    One starts when the one before it is decided: it starts from the policy that stands for its own start now, and is
    trained against the one that stands for its reference. A round whose reference was not done over is passed over as
    long as there are others.
    """
    refusal: RoundError | None = None
    for original in rounds_to_retrain(project):
        try:
            reference = _present_reference(original)
        except RoundError as error:
            refusal = refusal or error
            continue
        return state_machine.retrain(original, _present_start(original), None, reference=reference)
    if refusal is not None:
        raise refusal
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
    return _retrained(original.start_policy) or original.start_policy


def _present_reference(original: Round) -> Policy | None:
    """Return the policy that a round is trained against when it is done over; None where it names none.

    Raises RoundError where that one holds what was forgotten, and none was retrained in its place.
    """
    named = find_references(original.project_id).get(original.pk)
    if named is None:
        return None
    reference = Policy.objects.get(pk=named)
    if not Round.objects.filter(result_policy=reference, holds_forgotten=True).exists():
        return reference
    found = _retrained(reference)
    if found is None:
        sentence = _(
            "Round %(number)d cannot be done over: its reference %(policy)s holds what was forgotten and was not done"
            " over."
        )
        raise RoundError(
            sentence % {"number": original.number, "policy": reference.name}, "reference", separator=None
        )
    return found


def _retrained(policy: Policy) -> Policy | None:
    """Return the policy that was retrained in place of one that holds what was forgotten, if there is one."""
    made_by = Round.objects.filter(result_policy=policy, holds_forgotten=True).first()
    if made_by is None:
        return None
    again = made_by.retrained_by.filter(result_policy__isnull=False).order_by("-number").first()
    return again.result_policy if again is not None else None
