"""An annotator's own work in a project: calm figures, no ranking."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone

from annotate.models import Judgment, Project, User, is_current
from annotate.models.judgments import JudgmentQuerySet
from annotate.queueing.qualification import find_gold_judgments
from annotate.queueing.workload import EXTRA, MOST_LEFT, count_workload
from annotate.reports.agreement import LONGEST_SECONDS
from annotate.reports.days import Day
from primitives.statistics import Share

Verdict = Judgment.Verdict
DAYS = 14  # in the picture of the annotator's days
RECENT = 200  # judgments that the pace is measured on


@dataclass(frozen=True)
class MyWork:
    """`seconds` is the median time for a verdict; `left` how many comparisons are open to this person, cut at
    MOST_LEFT and shared with their colleagues; `streak` how many days in a row, up to today or yesterday, they
    judged on."""

    today: int
    total: int
    streak: int
    days: list[Day]
    seconds: float | None
    left: int
    agreement: Share | None
    gold: Share | None

    @property
    def an_hour(self) -> int | None:
        """Return the verdicts in an hour of judging."""
        return round(3600 / self.seconds) if self.seconds else None

    @property
    def is_more_left(self) -> bool:
        return self.left > MOST_LEFT

    @property
    def minutes_left(self) -> int | None:
        """Return the time left at this annotator's pace, ignoring others."""
        return (
            max(1, round(self.left * self.seconds / 60)) if self.seconds and not self.is_more_left else None
        )


def measure_work(project: Project, annotator: User) -> MyWork:
    """Return this annotator's figures, with agreement and gold accuracy only where the project shows them.

    If gold is silent, so is its figure: one verdict and a look at it would tell which comparisons are gold.
    """
    told = project.gold_feedback == Project.GoldFeedback.SHOWN
    now = timezone.now()
    mine = _mine(project, annotator)
    today = timezone.localdate(now)
    per_day = _per_day(mine, now - timedelta(days=400))
    return MyWork(
        today=per_day.get(today, 0),
        total=mine.count(),
        streak=_streak(per_day, today),
        days=[
            Day(day, per_day.get(day, 0))
            for day in (today - timedelta(days=n) for n in range(DAYS - 1, -1, -1))
        ],
        seconds=_pace(mine),
        left=count_workload(project, annotator).left,
        agreement=_agreement(mine, now) if project.show_agreement else None,
        gold=_gold(project, annotator) if project.show_agreement and told else None,
    )


def count_today(project: Project, annotator: User) -> int:
    """Count the annotator's verdicts since midnight, in their own time zone. Skips do not count."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return _mine(project, annotator).since(midnight).count()


def _mine(project: Project, annotator: User) -> JudgmentQuerySet:
    return Judgment.objects.filter(project=project, annotator=annotator).current().opinions()


def _per_day(mine: JudgmentQuerySet, since: datetime) -> dict[date, int]:
    rows = mine.since(since).annotate(day=TruncDate("first_at")).values("day")
    return {row["day"]: row["count"] for row in rows.annotate(count=Count("pk")).order_by()}


def _streak(per_day: dict[date, int], today: date) -> int:
    day = today if today in per_day else today - timedelta(days=1)
    streak = 0
    while day in per_day:
        streak += 1
        day -= timedelta(days=1)
    return streak


def _pace(mine: QuerySet[Judgment]) -> float | None:
    timed = mine.filter(seconds__lte=LONGEST_SECONDS).order_by("-first_at").values_list("seconds", flat=True)
    recent = [seconds for seconds in timed[:RECENT] if seconds]
    return median(recent) if recent else None


def _agreement(mine: JudgmentQuerySet, now: datetime) -> Share:
    """Compare with each colleague's verdict on the same comparison; how strongly one prefers does not matter.

    Gold is left out, as all annotators judge it, and so is today: a look after each verdict must not tell what it was.
    """
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    other = "comparison__judgments__"
    # Greater or less, not a negation: Django would look for a negation in another row.
    by_another = Q(**{f"{other}annotator__gt": F("annotator")}) | Q(
        **{f"{other}annotator__lt": F("annotator")}
    )
    met = mine.exclude(comparison__kind__in=EXTRA).filter(
        by_another,
        is_current(other),
        first_at__lt=midnight,
        **{f"{other}verdict__in": Judgment.OPINIONS, f"{other}import_batch": ""},
    )
    same = Q(verdict=F(f"{other}verdict")) & (
        ~Q(verdict=Verdict.PREFER) | Q(preferred=F(f"{other}preferred"))
    )
    counts = met.aggregate(same=Count("pk", filter=same), total=Count("pk"))
    return Share(counts["same"], counts["total"])


def _gold(project: Project, annotator: User) -> Share:
    golds = find_gold_judgments(project).filter(annotator=annotator)
    right = Count("pk", filter=Q(preferred=F("comparison__gold_preferred")))
    counts = golds.aggregate(right=right, total=Count("pk"))
    return Share(counts["right"], counts["total"])
