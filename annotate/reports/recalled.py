"""Figures that pages show again and again, recalled while a project's judgments stay the same.

What is kept for good, such as a snapshot or a round, never takes its figures from here.
"""

from collections.abc import Callable
from typing import TypeVar

from django.core.cache import cache
from django.db.models import Count, Max

from annotate.models import Project
from annotate.reports.reliability import Evidence, collect

Figures = TypeVar("Figures")
SECONDS = 60  # for which a page may miss what is no judgment, such as a new probe


def recall(project: Project, name: str, measure: Callable[[], Figures]) -> Figures:
    """Return what `measure` found by the same judgments within SECONDS, or what it finds now."""
    state = project.judgments.aggregate(
        count=Count("pk"),
        newest=Max("pk"),
        latest=Max("created_at"),  # a database restored from a copy gives keys again
        superseded=Max("superseded_at"),
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
        evidence.find()
        return evidence

    return recall(project, "evidence", measure)
