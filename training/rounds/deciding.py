"""The decision about a finished round: promote its policy or reject it, and roll back to an earlier one.

A round leaves the state that it waits in by `state_machine.move`, as everywhere.
"""

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Comparison, Policy, Priority, Project, User
from annotate.models.conflicts import again_on_race
from training.models import Round
from training.rounds.lineage import find_parents
from training.rounds.starts import RoundError
from training.rounds.state_machine import FRESH_PRIORITY, move, note

# A comparison that a rejection withdraws.
UNFINISHED = Q(judged__lt=F("needed"), withdrawn_at=None)


@again_on_race
def promote(round_: Round, by: User | None = None) -> bool:
    """Make the round's policy the current one. Return False if it was decided already."""
    round_.refresh_from_db(fields=["state"])
    if round_.state != Round.State.READY:
        return False
    with transaction.atomic():
        # The project before the round, as `state_machine.start` and the worker's last step take them.
        Project.objects.select_for_update(no_key=True).get(pk=round_.project_id)
        if not move(round_, Round.State.PROMOTED, by=by):
            return False
        Project.objects.filter(pk=round_.project_id).update(current_policy=round_.result_policy)
        # Decided: what is left of the gate still measures, and waits its turn like everything else.
        round_.gate.open().update(priority=Priority.STANDARD)
    return True


@again_on_race
def reject(round_: Round, by: User | None = None) -> bool:
    """Keep the policy before it, and withdraw the comparisons of its samples that are not judged in full."""
    round_.refresh_from_db(fields=["state"])
    if round_.state != Round.State.READY:
        return False
    with transaction.atomic():
        if not move(round_, Round.State.REJECTED, by=by):
            return False
        for comparisons in (round_.fresh, round_.gate):
            # The condition is on the row that is updated: what is judged in full while this waits stays.
            unfinished = Comparison.objects.filter(UNFINISHED, pk__in=comparisons.values("pk"))
            unfinished.update(withdrawn_at=timezone.now())
    return True


@again_on_race
def roll_back(project: Project, policy: Policy, by: User | None = None) -> None:
    """Make a policy that was current before current again.

    Nothing is lost: the rounds stay as they are, and the samples of policies that are no longer in use are judged
    last. Raises RoundError if the policy never was current.
    """
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if policy.project_id != project.pk or policy not in once_current(project):
            sentence = _("Policy %(policy)s never was current in this project.")
            raise RoundError(sentence % {"policy": policy.name}, "policy")
        if policy == project.current_policy:
            sentence = _("Policy %(policy)s is current already.")
            raise RoundError(sentence % {"policy": policy.name}, "policy")
        left = project.current_policy
        Project.objects.filter(pk=project.pk).update(current_policy=policy)
        message = f"Rolled back from {left.name if left else 'none'} to {policy.name}."
        for round_ in project.rounds.filter(result_policy__in=[p for p in (left, policy) if p]):
            note(round_, round_.state, message, by)
        in_use = {policy.pk, *(ancestor.pk for ancestor in find_parents(policy))}
        for round_ in project.rounds.filter(state=Round.State.PROMOTED):
            wanted = FRESH_PRIORITY if round_.result_policy_id in in_use else Priority.STANDARD
            round_.fresh.open().update(priority=wanted)


def once_current(project: Project) -> list[Policy]:
    """Return the policies that may be made current.

    They are promoted ones, those that promoted rounds started from, and those that were brought in with weights.
    """
    promoted = project.rounds.filter(state=Round.State.PROMOTED)
    brought = ~Q(origin={}) & ~Q(kind=Policy.Kind.EXTERNAL)
    return list(
        project.policies.filter(Q(round__in=promoted) | Q(rounds_started__in=promoted) | brought)
        .distinct()
        .order_by("pk")
    )
