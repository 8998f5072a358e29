"""The pages that show judging and rounds side by side: a user's projects, and a project's overview."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from annotate.models import Role
from annotate.people import invitations
from annotate.people.access import ProjectRequest, get_user, project_view
from annotate.projects.lifecycle import unchecked_base_model
from annotate.queueing.workload import MOST_LEFT, memberships_of, read_workload
from annotate.views.quality import chart_of
from training.views.overview import open_rounds, overview


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """List the projects of the user."""
    memberships = list(memberships_of(get_user(request)))
    rounds = open_rounds([one.project for one in memberships if one.role != Role.ANNOTATOR])
    context = {
        "memberships": [
            (one, rounds.get(one.project_id), read_workload(one, one.project).left)
            for one in memberships
            if not one.project.archived_at
        ],
        "most_left": MOST_LEFT,
        "archived": [one for one in memberships if one.project.archived_at and one.role != Role.ANNOTATOR],
        "is_any_archived": any(one.project.archived_at for one in memberships),
        "invitations": invitations.open_invitations(get_user(request)),
    }
    return render(request, "training/home.html", context)


@require_GET
@project_view()
def project(request: ProjectRequest) -> HttpResponse:
    """Send annotators to the desk. Show the overview to the other members."""
    if request.membership.role == Role.ANNOTATOR:
        return redirect("judge", request.project.slug)
    found = overview(request.project)
    context = {
        "overview": found,
        "unchecked_model": unchecked_base_model(request.project),
        **chart_of(found.days),
    }
    return render(request, "training/overview.html", context)
