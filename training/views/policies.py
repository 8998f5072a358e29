"""The pages of policies: their strength, where they came from, and what came of them."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.errors import RefusalError
from annotate.models import Policy, Role
from annotate.people.access import ADMINS, READERS, ProjectRequest, project_view
from training.models import Round
from training.rounds import deciding, lineage
from training.standings.drift import measure_drift
from training.standings.policies import find_anchor, rank_policies
from training.standings.records import records_of
from training.usage.naming import rename, writers

JUDGMENTS_PAGE = 50
SAMPLES = 3


@require_GET
@project_view(*READERS)
def policy_list(request: ProjectRequest) -> HttpResponse:
    """Show every policy, with its strength in the judgments."""
    rows = rank_policies(request.project)
    context = {
        "rows": rows,
        "anchor": find_anchor(rows),
        "is_admin": request.membership.role == Role.ADMIN,
    }
    return render(request, "training/policies.html", context)


@project_view(*READERS, post=ADMINS)
def policy_page(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Show where a policy came from, down to the judgments, and what came of it.

    A POST with the action `name` gives it another name; any other one makes it current.
    """
    project = request.project
    found = project.policies.select_related("parent", "round", "endpoint", "brought_by")
    policy = get_object_or_404(found, pk=policy_id)
    policy.project = project
    if request.method == "POST":
        _change(request, policy)
        return redirect("policy", project.slug, policy.pk)
    history = lineage.trace_back(policy)
    can_roll_back = policy != project.current_policy and policy in deciding.once_current(project)
    context = {
        "policy": policy,
        "history": history,
        "round": history[0].round,
        "drift": measure_drift(history[0].round) if history[0].round else None,
        "descendants": lineage.find_descendants(policy),
        "judgments": _judgments_page(history[0].round, request.GET.get("page")),
        "shows_judgments": "page" in request.GET,
        "is_current": policy.pk == project.current_policy_id,
        "can_roll_back": can_roll_back and request.membership.role == Role.ADMIN,
        "written": policy.completions.count(),
        "records": records_of(policy),
        "samples": policy.completions.select_related("prompt").order_by("-pk")[:SAMPLES],
        "can_write": writers(project).filter(pk=policy.pk).exists(),
        "can_be_named": request.membership.role == Role.ADMIN,
    }
    return render(request, "training/policy.html", context)


def _change(request: ProjectRequest, policy: Policy) -> None:
    """Give a policy another name, or make it current."""
    try:
        if request.POST.get("action") == "name":
            rename(policy, request.POST.get("name", ""), request.user)
            messages.success(request, _("It is called %(policy)s now.") % {"policy": policy.name})
        else:
            deciding.roll_back(request.project, policy, request.user)
            messages.success(request, _("%(policy)s is the current policy now.") % {"policy": policy.name})
    except RefusalError as error:
        messages.error(request, str(error))


def _judgments_page(round_: Round | None, page: Any) -> Any:
    """Return a page of the judgments that the round's snapshot took."""
    if round_ is None or round_.snapshot is None:
        return None
    taken = (
        lineage.held_judgments([round_.snapshot.pk])
        .select_related("annotator", "comparison__prompt", "preferred__policy")
        .order_by("pk")
    )
    return Paginator(taken, JUDGMENTS_PAGE).get_page(page)


@require_GET
@project_view(*READERS)
def shaped_policies(request: ProjectRequest, comparison_id: int) -> HttpResponse:
    """Show every policy that a comparison's judgments shaped."""
    comparison = get_object_or_404(request.project.comparisons.select_related("prompt"), pk=comparison_id)
    context = {
        "comparison": comparison,
        "influences": lineage.find_influences(comparison),
        "title": _("What comparison %(id)s shaped") % {"id": comparison.pk},
    }
    return render(request, "training/shaped.html", context)
