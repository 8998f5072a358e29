"""Looking through a project's comparisons, newest first, at a cost that does not grow with the project.

Pages follow the primary key (no OFFSET, no COUNT). A filter may match rarely, so the search walks back over
windows of keys until the page is full or its time is up; then it says how far it got, and can go on from there.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet, TextField
from django.db.models.expressions import F, Value
from django.db.models.functions import Cast, Coalesce, Concat
from django.db.models.lookups import IContains

from annotate.models import Comparison, Flag, Judgment, Project, is_set_aside
from annotate.models.comparisons import ComparisonQuerySet

PAGE = 50
FIRST_WINDOW, LARGEST_WINDOW = 2_000, 64_000  # keys
SECONDS = 0.4  # spent on one page
_LONG = ("token_ids", "prompt_token_ids", "text")  # columns of completions that a line does not show


@dataclass(frozen=True)
class Page:
    """`older` is where the next page starts, or None at the end. `cut` says that the time was up before the
    page was full: older comparisons may still match."""

    comparisons: list[Comparison]
    older: int | None
    cut: bool


EMPTY = Page([], older=None, cut=False)


def browse(
    project: Project, filters: Mapping[str, Any], before: int | None = None, seconds: float = SECONDS
) -> Page:
    """Return the newest comparisons that match, older than the key `before`. `filters` is FilterForm's cleaned data."""
    matching = narrow(Comparison.objects.filter(project=project), filters)
    newest = Comparison.objects.filter(project=project).order_by("-pk").values_list("pk", flat=True).first()
    cursor = min(before, (newest or 0) + 1) if before else (newest or 0) + 1
    found: list[int] = []
    window, until = FIRST_WINDOW, time.monotonic() + seconds
    while cursor > 0 and len(found) <= PAGE:
        low = max(cursor - window, 0)
        started = time.monotonic()
        found += (
            matching.filter(pk__lt=cursor, pk__gte=low)
            .order_by("-pk")
            .values_list("pk", flat=True)[: PAGE + 1 - len(found)]
        )
        cursor = low
        if time.monotonic() > until:
            break
        if time.monotonic() - started < seconds / 4:
            window = min(2 * window, LARGEST_WINDOW)
    if len(found) > PAGE:
        return Page(_with_details(found[:PAGE]), older=found[PAGE - 1], cut=False)
    return Page(_with_details(found), older=cursor or None, cut=cursor > 0)


def narrow(comparisons: ComparisonQuerySet, filters: Mapping[str, Any]) -> ComparisonQuerySet:
    """Return the comparisons that match every filter given."""
    if text := filters.get("q"):
        comparisons = comparisons.filter(containing(text))
    match filters.get("state"):
        case "waiting":
            comparisons = comparisons.filter(judged=0, withdrawn_at=None).exclude(is_set_aside())
        case "partly":
            partly = comparisons.filter(judged__gt=0, judged__lt=F("needed"), withdrawn_at=None)
            comparisons = partly.exclude(is_set_aside())
        case "finished":
            comparisons = comparisons.finished().filter(withdrawn_at=None)
        case "set_aside":
            comparisons = comparisons.set_aside()
        case "withdrawn":
            comparisons = comparisons.filter(withdrawn_at__isnull=False)
    if kind := filters.get("kind"):
        comparisons = comparisons.filter(kind=kind)
    if policy := filters.get("policy"):
        comparisons = comparisons.filter(Q(first__policy=policy) | Q(second__policy=policy))
    if held_out := filters.get("held_out"):
        comparisons = comparisons.filter(prompt__held_out=held_out == "yes")
    verdict = {name: filters[name] for name in ("annotator", "verdict") if filters.get(name)}
    if verdict:
        comparisons = comparisons.filter(
            Exists(Judgment.objects.current().filter(comparison=OuterRef("pk"), **verdict))
        )
    if filters.get("disagreement"):
        comparisons = comparisons.filter(
            Exists(_disagreeing().filter(comparison=OuterRef("pk"))), judged__gt=1
        )
    if filters.get("flagged"):
        comparisons = comparisons.filter(Exists(Flag.objects.open().filter(comparison=OuterRef("pk"))))
    return comparisons


def _disagreeing() -> QuerySet[Judgment, Any]:
    """Return the comparisons on which two annotators' verdicts differ. Skips and strengths do not count."""
    preferred = Coalesce(Cast("preferred_id", TextField()), Value("", TextField()))
    outcome = Concat(Cast("verdict", TextField()), preferred)
    return (
        Judgment.objects.current()
        .opinions()
        .order_by()
        .values("comparison")
        .annotate(outcomes=Count(outcome, distinct=True))
        .filter(outcomes__gt=1)
    )


def containing(text: str, path: str = "") -> Q:
    """Comparisons with this text in the prompt or a completion, or with this number ("#812") or external id.

    `path` leads to the comparison, such as "comparison__".
    """
    if text.startswith("#") and text[1:].isdecimal():
        return Q(**{f"{path}pk": int(text[1:])})
    found = Q(**{f"{path}prompt__external_id": text})
    found |= Q(**{f"{path}first__text__icontains": text}) | Q(**{f"{path}second__text__icontains": text})
    # A prompt is stored as JSON: SQLite keeps it escaped, PostgreSQL does not.
    for escaped in {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}:
        found |= Q(IContains(Cast(f"{path}prompt__content", TextField()), escaped))
    return found


def _with_details(keys: list[int]) -> list[Comparison]:
    """Return these comparisons in this order, with what a line of the list shows, in three queries."""
    shown = Judgment.objects.current().select_related("annotator")
    comparisons = (
        Comparison.objects.filter(pk__in=keys)
        .select_related("prompt", "first__policy", "second__policy")
        .defer(*(f"{side}__{name}" for side in ("first", "second") for name in _LONG))
        .prefetch_related(
            Prefetch("judgments", shown.order_by("created_at"), "current"),
            Prefetch("flags", Flag.objects.open(), "open_flags"),
        )
        .order_by("-pk")
    )
    return list(comparisons)
