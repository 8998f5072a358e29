"""Judgments by day: the figures behind the charts of progress."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from django.db.models import Count, Q
from django.utils import timezone

from annotate.models import Judgment, Project

DAYS = 30


@dataclass(frozen=True)
class Day:
    """A day, and how many judgments were given on it."""

    date: date
    count: int


def days_of(project: Project) -> list[Day]:
    """Count judgments of people on each of the last days, those without any too. What was imported is not their work.

    One count with a condition for each day: SQLite has no date functions of its own, and would call Python for each
    row to group by day.
    """
    today = timezone.localdate()
    days = [today - timedelta(days=DAYS - 1 - number) for number in range(DAYS)]
    starts = [
        timezone.make_aware(datetime.combine(day, time())) for day in [*days, today + timedelta(days=1)]
    ]
    counts = (
        Judgment.objects.current()
        .by_people()
        .filter(project=project)
        .since(starts[0])
        .aggregate(
            **{
                f"day_{number}": Count("pk", filter=Q(first_at__gte=start, first_at__lt=end))
                for number, (start, end) in enumerate(pairwise(starts))
            }
        )
    )
    return [Day(day, counts[f"day_{number}"]) for number, day in enumerate(days)]
