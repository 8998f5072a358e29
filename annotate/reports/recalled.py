"""Figures that pages show again and again, recalled while a project's judgments stay the same.

What is kept for good, such as a snapshot or a round, never takes its figures from here.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.core.cache import cache
from django.db.models import Count, F, Max, Q, QuerySet, Sum

from annotate.models import Comparison, Project
from annotate.reports.reliability import Evidence, collect

Figures = TypeVar("Figures")
A_DAY = 24 * 60 * 60
State = tuple[int, int, datetime | None]
SECONDS = 60  # for which a page may miss what is no judgment, such as a new probe


def recall(project: Project, name: str, measure: Callable[[], Figures]) -> Figures:
    """Return what `measure` found by the same judgments within SECONDS, or what it finds now."""
    state = project.judgments.aggregate(
        count=Count("pk"),
        newest=Max("pk"),
        latest=Max("created_at"),  # a database restored from a copy gives keys again
        superseded=Max("superseded_at"),
        undone=Sum("pk", filter=Q(superseded_at__isnull=False)),  # a redo changes none of the others
    )
    key = f"{name}:{project.pk}:{project.created_at}:{':'.join(map(str, state.values()))}".replace(" ", "T")
    kept = cache.get(key)
    if kept is None:
        kept = measure()
        cache.set(key, kept, SECONDS)
    found: Figures = kept
    return found


def recall_evidence(project: Project) -> Evidence:
    """Return the evidence of annotators' reliability, with what was found by it."""

    def measure() -> Evidence:
        evidence = collect(project)
        evidence.reliability  # noqa: B018 - computed once, and kept with it
        return evidence

    return recall(project, "evidence", measure)


# What was read so far, and those of it that meet the condition.
_NONE_YET: tuple[State, frozenset[int]] = ((0, 0, None), frozenset())


def recall_equal(project: Project) -> frozenset[int]:
    """Return the comparisons whose completions say the same.

    It is for figures of a page. What leaves is compared when its texts are read.
    """
    return recall_comparisons(project, "pairs of equal texts", Q(first__text=F("second__text")))


def recall_comparisons(
    project: Project, name: str, condition: Q, *, enough: int | None = None
) -> frozenset[int]:
    """Return the comparisons that meet a condition on their prompts and completions, which never change.

    `enough` is how many of them are looked for, if not all.
    """
    key = f"{name}:{project.pk}:{project.created_at}".replace(" ", "T")
    comparisons = Comparison.objects.filter(project=project)
    state, those = cache.get(key) or _NONE_YET
    if _state(comparisons.filter(pk__lte=state[1])) != state:  # some are gone, or came late
        state, those = _NONE_YET
    count, newest, _made = state
    new_count, new_newest, made = _state(comparisons.filter(pk__gt=newest))
    if new_count and (enough is None or len(those) < enough):
        found = comparisons.filter(condition, pk__gt=newest).order_by().values_list("pk", flat=True)
        those |= frozenset(found[: enough and enough - len(those)])
        cache.set(key, ((count + new_count, new_newest, made), those), A_DAY)
    return those


def _state(comparisons: QuerySet[Comparison]) -> State:
    """Return how many there are, the newest, and when that was made.

    A database restored from a copy gives keys again.
    """
    found = comparisons.aggregate(count=Count("pk"), newest=Max("pk"))
    made = comparisons.filter(pk=found["newest"]).values_list("created_at", flat=True).first()
    return found["count"], found["newest"] or 0, made
