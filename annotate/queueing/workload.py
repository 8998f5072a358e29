"""The comparisons left for an annotator, counted so that it does not tell gold and repeats from the others.

Each verdict takes one from the count, whatever was judged, and taking a comparison takes none. So the count holds
the gold and the repeats that are due too. They are as many as the project's rates add to this annotator's other
comparisons, those judged and those left. The queue hands out no more, and makes up for what its dice left out at
the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, IntegerField, OuterRef, Q, QuerySet, Subquery

from annotate.models import Claim, Comparison, Judgment, Membership, Project, User
from annotate.queueing.repeats import APART

MOST_LEFT = 2_000  # comparisons counted as left; more are "more than"
COUNTED = MOST_LEFT + 500  # so that all counts up to MOST_LEFT are exact, gold and repeats included
EXTRA = (Comparison.Kind.GOLD, Comparison.Kind.REPEAT)


@dataclass(frozen=True)
class Workload:
    """An annotator's comparisons in a project: `open`, `held` and `judged` count all but gold and repeats.

    `gold` is not had yet. `gold_had` and `repeats_had` are in their hands or judged, without the gold of the
    qualification. `repeats` wait for them.
    """

    gold_rate: float
    repeat_rate: float
    open: int
    held: int
    judged: int
    gold: int
    gold_held: int
    gold_had: int
    repeats: int
    repeats_held: int
    repeats_had: int

    @property
    def total(self) -> int:
        return self.open + self.held + self.judged

    @property
    def gold_due(self) -> int:
        """Return how many gold comparisons come beside those that the annotator had."""
        quota = math.ceil(self.gold_rate / (1 - self.gold_rate) * max(self.total, 1)) if self.gold_rate else 0
        return min(self.gold, max(quota - self.gold_had, 0))

    @property
    def repeats_due(self) -> int:
        """Return how many repeats are still to be made."""
        if not self.repeat_rate or not self.open + self.held:
            return 0
        ratio = self.repeat_rate / ((1 - self.repeat_rate) * (1 - self.gold_rate))
        return max(math.floor(ratio * max(self.total - APART, 0)) - self.repeats - self.repeats_had, 0)

    @property
    def left(self) -> int:
        """Return how many comparisons are left. More than MOST_LEFT are not counted to the end."""
        here = self.open + self.held + self.gold_held + self.repeats + self.repeats_held
        return here + self.gold_due + self.repeats_due


def count_workload(project: Project, annotator: User) -> Workload:
    """Return the annotator's workload."""
    counted = memberships_of(annotator).filter(project=project).first()
    return read_workload(counted, project) if counted else Workload(0, 0, *[0] * 9)  # a member who left


def memberships_of(annotator: User) -> QuerySet[Membership]:
    """Return the user's memberships with their projects, and the counts for `read_workload`, in one query."""
    mine = Membership.objects.filter(user=annotator).select_related("project").order_by("project__name")
    comparisons = Comparison.objects.filter(project=OuterRef("project"))
    is_open = comparisons.open_to(annotator)
    held = Claim.objects.filter(project=OuterRef("project"), annotator=annotator).holding()
    judged = Judgment.objects.filter(project=OuterRef("project"), annotator=annotator).current()
    had = Claim.objects.had_by(annotator, OuterRef("pk"))
    is_gold, is_repeat = Q(comparison__kind=Comparison.Kind.GOLD), Q(comparison__kind=Comparison.Kind.REPEAT)
    is_extra = Q(comparison__kind__in=EXTRA)
    qualifying = Q(first_at__lte=OuterRef("qualified_at"), project__qualification_size__gt=0)
    return mine.annotate(
        n_open=_count(is_open.exclude(kind__in=EXTRA)[:COUNTED]),
        n_repeats=_count(is_open.filter(kind=Comparison.Kind.REPEAT)),
        n_held=_count(held.exclude(is_extra)),
        n_gold_held=_count(held.filter(is_gold)),
        n_repeats_held=_count(held.filter(is_repeat)),
        n_judged=_count(judged.exclude(is_extra)),
        n_gold_judged=_count(judged.filter(is_gold)),
        n_qualifying=_count(judged.filter(is_gold & qualifying)),
        n_repeats_judged=_count(judged.filter(is_repeat)),
        n_gold=_count(
            comparisons.filter(~Exists(had), kind=Comparison.Kind.GOLD, withdrawn_at=None)[:COUNTED]
        ),
    )


def _count(rows: QuerySet[Any]) -> Subquery:
    return _CountOf(rows.values("pk"))


class _CountOf(Subquery):
    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()


def read_workload(membership: Any, project: Project) -> Workload:
    """Return the workload of a member that `memberships_of` counted."""
    one = membership
    return Workload(
        project.gold_rate,
        project.repeat_rate,
        open=one.n_open,
        held=one.n_held,
        judged=one.n_judged,
        gold=one.n_gold if one.qualified_at or not project.qualification_size else 0,
        gold_held=one.n_gold_held,
        gold_had=one.n_gold_held + one.n_gold_judged - one.n_qualifying,
        repeats=one.n_repeats,
        repeats_held=one.n_repeats_held,
        repeats_had=one.n_repeats_held + one.n_repeats_judged,
    )
