"""The overview of a project: its progress, and the next step."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, F, IntegerField, Min, Q, Sum
from django.db.models.functions import Least
from django.utils import timezone

from annotate.models import (
    Comparison,
    Flag,
    Judgment,
    Membership,
    Policy,
    Project,
    Prompt,
    Role,
    is_set_aside,
)
from annotate.reports.days import Day, days_of
from training.models import Round
from training.usage.naming import has_trainable, has_writer

MOST_DAYS_LEFT = 90  # an estimate beyond says only that the pace is low


@dataclass(frozen=True)
class Overview:
    """The progress of a project, without gold, repeats, and what is set aside as too many annotators skipped it.

    `finished` of `total` comparisons have the judgments they need. `judgments` of `judgments_needed` count no
    judgments beyond those. Neither counts what was judged elsewhere: `imported` judgments, on comparisons of which
    `judged_elsewhere` need no others. `open_round` is the round that runs or waits for a decision, or None.
    `people` are its annotators, and other members who judged in the last seven days; of them, `active` did.
    `has_writer` says whether the project has a policy that can write, `has_trainable` one that a round can train.
    """

    prompts: int
    total: int
    finished: int
    judgments: int
    judgments_needed: int
    imported: int
    judged_elsewhere: int
    active: int
    people: int
    flags: int
    set_aside: int
    policies: list[Policy]
    days: list[Day]
    open_round: Round | None
    has_writer: bool
    has_trainable: bool

    @property
    def step(self) -> str:
        """Return the next step: running, decide, import, model, sample, people, judge, round or export."""
        if self.open_round:
            return "running" if self.open_round.is_live else "decide"
        if not self.total + self.set_aside + self.judged_elsewhere:
            if not self.prompts:
                return "import"
            return "sample" if self.has_writer else "model"
        if not self.people and not self.judgments and not self.judged_elsewhere:
            return "people"
        if self.judgments < self.judgments_needed:
            return "judge"
        return "round" if self.has_trainable else "export"

    @property
    def left(self) -> int:
        return self.judgments_needed - self.judgments

    @property
    def today(self) -> int:
        return self.days[-1].count

    @property
    def percent(self) -> int:
        return round(100 * self.judgments / self.judgments_needed) if self.judgments_needed else 100

    @property
    def days_left(self) -> int | None:
        """Return the days left at the pace of the last seven days. None if nothing is left, or it would mean little."""
        pace = sum(day.count for day in self.days[-7:]) / 7
        days = round(self.left / pace) if pace and self.left > 0 else None
        return None if days is None or days > MOST_DAYS_LEFT else days


def open_rounds(projects: Iterable[Project]) -> dict[int, Round]:
    """Map each project's id to its round that runs or waits for a decision, where there is one."""
    found = Round.objects.open().filter(project__in=projects).select_related("project")
    return {round_.project_id: round_ for round_ in found}


def overview(project: Project) -> Overview:
    """Return the overview of a project, in a number of queries that does not depend on its size."""
    work = Comparison.objects.filter(
        project=project, kind__in=[Comparison.Kind.STANDARD, Comparison.Kind.GATE], withdrawn_at=None
    )
    set_aside = work.set_aside().count()
    counts = work.exclude(is_set_aside()).aggregate(
        total=Count("pk"),
        finished=Count("pk", filter=Q(judged__gte=F("needed"))),
        judgments=Sum(Least("judged", "needed", output_field=IntegerField()), default=0),
        judgments_needed=Sum("needed", default=0),
    )
    imported, elsewhere = _count_imported(project)
    elsewhere_too = {
        "total": elsewhere,
        "finished": elsewhere,
        "judgments": imported,
        "judgments_needed": imported,
    }
    counts = {name: count - elsewhere_too[name] for name, count in counts.items()}
    week = timezone.now() - timedelta(days=7)
    recent = Judgment.objects.current().by_people().filter(project=project).since(week)
    has_judged = Q(user__in=recent.values("annotator"))
    people = Membership.objects.filter(has_judged | Q(role=Role.ANNOTATOR), project=project)
    return Overview(
        **counts,
        imported=imported,
        judged_elsewhere=elsewhere,
        prompts=Prompt.objects.in_use().uncompared().filter(project=project).count(),
        active=people.filter(has_judged).count(),
        people=people.count(),
        set_aside=set_aside,
        flags=Flag.objects.open().filter(comparison__project=project).count(),
        policies=list(Policy.objects.filter(project=project).order_by("-pk")[:3]),
        days=days_of(project),
        open_round=open_rounds([project]).get(project.pk),
        has_writer=has_writer(project),
        has_trainable=has_trainable(project),
    )


def _count_imported(project: Project) -> tuple[int, int]:
    """Count the judgments from elsewhere in work that the overview counts, and the comparisons that need no others."""
    given = (
        Judgment.objects.current()
        .opinions()
        .filter(
            ~is_set_aside("comparison__"),
            project=project,
            comparison__kind__in=[Comparison.Kind.STANDARD, Comparison.Kind.GATE],
            comparison__withdrawn_at=None,
        )
        .exclude(import_batch="")
    )
    by_comparison = (
        given.order_by().values("comparison").annotate(count=Count("pk"), needed=Min("comparison__needed"))
    )
    counts = by_comparison.aggregate(
        judgments=Sum("count", default=0), comparisons=Count("comparison", filter=Q(count__gte=F("needed")))
    )
    return counts["judgments"], counts["comparisons"]
