"""The page of quality, and its chart of days."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.people.access import READERS, ProjectRequest, project_view
from annotate.reports.days import Day
from annotate.reports.quality import Quality, assess

CHART_WIDTH, CHART_HEIGHT, GAP = 720, 120, 4
SEARCH = 200  # characters


@require_GET
@project_view(*READERS)
def quality(request: ProjectRequest) -> HttpResponse:
    search = request.GET.get("external", "").strip()[:SEARCH]
    found = assess(request.project, search)
    context = {
        "quality": found,
        "search": search,
        "alpha_in_words": _alpha_in_words(found),
        **chart_of(found.days),
    }
    return render(request, "annotate/quality.html", context)


def _alpha_in_words(found: Quality) -> str:
    if found.alpha is not None:
        return in_words(found.alpha.value)
    if found.pairwise.total:
        return _("not defined: all verdicts are the same")
    return _("needs two verdicts on one comparison")


def in_words(coefficient: float) -> str:
    """Return a coefficient of agreement in Landis and Koch's words (1977)."""
    for bound, words in (
        (0.0, _("no better than chance")),
        (0.2, _("slight")),
        (0.4, _("fair")),
        (0.6, _("moderate")),
        (0.8, _("substantial")),
    ):
        if coefficient <= bound:
            return words
    return _("almost perfect")


@dataclass(frozen=True)
class Bar:
    """A day's bar, in the chart's own units."""

    day: Day
    x: float
    y: float
    width: float
    height: float


def chart_of(days: Sequence[Day]) -> dict[str, Any]:
    """Return what `_days.html` draws: a bar a day, the most on one day, and the sum."""
    counts = [day.count for day in days]
    return {"bars": bars(days), "most": max(counts), "lately": sum(counts)}


def bars(days: Sequence[Day]) -> list[Bar]:
    highest = max((day.count for day in days), default=0) or 1
    step = CHART_WIDTH / len(days)
    return [
        Bar(
            day,
            x=round(number * step + GAP / 2, 1),
            y=round(CHART_HEIGHT * (1 - day.count / highest), 1),
            width=round(step - GAP, 1),
            height=round(CHART_HEIGHT * day.count / highest, 1),
        )
        for number, day in enumerate(days)
    ]
