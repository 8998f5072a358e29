"""The reason why there is nothing to judge, and what happens next. It is asked when `queue.claim` found nothing."""

from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.db.models import Min
from django.utils.translation import gettext_lazy as _

from annotate.models import Claim, Comparison, Project, User
from annotate.queueing import qualification


class Reason(models.TextChoices):
    ARCHIVED = "archived", _("The project is archived.")
    EMPTY = "empty", _("The project has no comparisons yet.")
    NOT_QUALIFIED = "not_qualified", _("You did not pass the qualification.")
    TOO_LITTLE_GOLD = "too_little_gold", _("There are too few gold comparisons to qualify on.")
    HELD = "held", _("Others are judging what is left.")
    DONE = "done", _("Everything that you can judge is judged.")


@dataclass(frozen=True)
class EmptyQueue:
    """`back_at`: when something may come back at the latest, if others hold what is left; else None."""

    reason: Reason
    back_at: datetime | None = None
    standing: qualification.Standing | None = None


def explain(project: Project, annotator: User) -> EmptyQueue:
    """Explain why the queue is empty for this annotator."""
    if project.archived_at:
        return EmptyQueue(Reason.ARCHIVED)
    standing = qualification.find_standing(project, annotator)
    if not standing.passed:
        reason = Reason.NOT_QUALIFIED if standing.failed else Reason.TOO_LITTLE_GOLD
        return EmptyQueue(reason, standing=standing)
    if not Comparison.objects.filter(project=project).exists():
        return EmptyQueue(Reason.EMPTY)
    back_at = _held_by_others(project, annotator)
    return EmptyQueue(Reason.HELD, back_at) if back_at else EmptyQueue(Reason.DONE)


def _held_by_others(project: Project, annotator: User) -> datetime | None:
    """Return when another annotator's first lease ends, on a comparison that this annotator has not had."""
    held = Claim.objects.filter(project=project).held_from(annotator)
    first: datetime | None = held.aggregate(first=Min("expires_at"))["first"]
    return first
