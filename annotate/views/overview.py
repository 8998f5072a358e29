"""A project's front page, for those who look after it."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from annotate.models import Membership, Project
from annotate.projects.lifecycle import unchecked_base_model
from annotate.reports.overview import overview
from annotate.views.quality import bars


def overview_page(request: HttpRequest, project: Project, membership: Membership) -> HttpResponse:
    """Called by the view `project`, which has checked who asks."""
    found = overview(project)
    context = {
        "project": project,
        "membership": membership,
        "overview": found,
        "unchecked_model": unchecked_base_model(project),
        "bars": bars(found.days),
        "most": max(day.count for day in found.days),
        "lately": sum(day.count for day in found.days),
    }
    return render(request, "annotate/overview.html", context)
