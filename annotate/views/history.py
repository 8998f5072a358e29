"""An annotator's own judgments, to look through, see again and change, and their own figures."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotate.errors import MissingError, RefusalError
from annotate.judgments import gold, revising
from annotate.judgments.scale import judgment_code, side_of
from annotate.models import Judgment, Membership, Project
from annotate.people import reading
from annotate.people.access import JUDGES, ProjectRequest, project_view
from annotate.projects import trail
from annotate.queueing.workload import MOST_LEFT
from annotate.reports import my_work
from annotate.reports.days import Day
from annotate.reports.search import containing
from annotate.views import verdict_form
from annotate.views.comparison_view import Stage
from primitives.text import make_storable, printable

PAGE = 50


@never_cache
@require_GET
@project_view(*JUDGES)
def history(request: ProjectRequest) -> HttpResponse:
    """Show the user's current judgments, newest first. `before` is the key where an older page starts."""
    project = request.project
    query = make_storable(request.GET.get("q", "")).strip()[:200]
    verdict = make_storable(request.GET.get("verdict", ""))
    is_known = verdict in ("", *Judgment.Verdict.values)
    judgments = _find(project, request.membership, query, verdict)
    before = request.GET.get("before", "")
    if (key := trail.parse_key(before)) is not None:
        judgments = judgments.filter(pk__lt=key)
    page = list(judgments.select_related("comparison__prompt").order_by("-pk")[: PAGE + 1])
    asked = {name: value for name, value in (("q", query), ("verdict", verdict)) if value}
    context = {
        "judgments": [(judgment, judgment_code(judgment)) for judgment in page[:PAGE]],
        "older": urlencode({**asked, "before": page[PAGE - 1].pk}) if len(page) > PAGE else "",
        "newest": urlencode(asked) if before else None,
        "query": query,
        "verdict": verdict,
        "choices": Judgment.Verdict.choices,
        "filtered": bool(asked),
        "unknown": "" if is_known else printable(verdict),
    }
    return render(request, "annotate/history.html", context, status=200 if is_known else 422)


def _find(project: Project, membership: Membership, query: str, verdict: str) -> QuerySet[Judgment]:
    mine = Judgment.objects.current().filter(project=project, annotator=membership.user)
    if verdict:  # an unknown one finds nothing, and the page says so
        mine = mine.filter(verdict=verdict)
    if query:  # in the texts that this person judged: the cost grows with their work, not with the project
        mine = mine.filter(Q(rationale__icontains=query) | containing(query, "comparison__"))
    return mine


@never_cache
@require_http_methods(["GET", "POST"])
@project_view(*JUDGES)
def judgment(request: ProjectRequest, judgment_id: int) -> HttpResponse:
    """Show one of the user's judgments, or change it. Its earlier verdict stays as history."""
    project = request.project
    mine = Judgment.objects.filter(project=project, annotator=request.user)
    found = mine.select_related("comparison__prompt", "left", "right").filter(pk=judgment_id).first()
    if found is None:
        raise MissingError(_("There is no such judgment of yours in this project."))
    reading.choose_view(request.membership, request.GET.get("view", ""))
    stage = Stage.of_judgment(found, project, reading.view_of(request.membership))
    error = ""
    if request.method == "POST":
        try:
            verdict = verdict_form.read(request.POST, project)
            revised = revising.revise(project, request.user, found.pk, verdict)
        except RefusalError as refused:
            error = refused.message
            shown = (found.left_id, found.right_id)
            stage = replace(stage, said=verdict_form.entered(request.POST, shown))
        else:
            messages.success(request, _("Changed.") if revised.pk != found.pk else _("It said so already."))
            return redirect("judgment", project.slug, revised.pk)
    versions = list(mine.filter(comparison=found.comparison_id).order_by("-pk"))
    context: dict[str, Any] = {
        "judgment": found,
        "current": next((version for version in versions if version.superseded_at is None), None),
        "code": judgment_code(found),
        "stage": stage,
        "versions": [(version, judgment_code(version)) for version in versions],
        "expected": side_of(found, gold.find_known_better(project, found)).upper(),
        "keys": {},
        "error": error,
    }
    return render(request, "annotate/judgment.html", context, status=422 if error else 200)


@never_cache
@require_GET
@project_view(*JUDGES)
def me(request: ProjectRequest) -> HttpResponse:
    project = request.project
    work = my_work.measure_work(project, request.user)
    context: dict[str, Any] = {
        "work": work,
        "bars": _bars(work.days),
        "most_left": MOST_LEFT,
    }
    return render(request, "annotate/me.html", context)


def _bars(days: list[Day]) -> list[tuple[Day, int, int]]:
    """Return each day with the top and the height of its bar, in a drawing 72 high."""
    most = max((day.count for day in days), default=0) or 1
    heights = [round(72 * day.count / most) for day in days]
    return [(day, 72 - height, height) for day, height in zip(days, heights, strict=True)]
