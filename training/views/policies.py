"""The pages of policies: their strength, where they came from, and what came of them."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.models import Judgment, Role
from annotate.people.access import ADMINS, READERS, ProjectRequest, project_view
from training.models import Round
from training.rounds import lineage, state_machine
from training.rounds.plan import RoundError
from training.standings.policies import find_anchor, rank_policies

JUDGMENTS_PAGE = 50


@require_GET
@project_view(*READERS)
def policy_list(request: ProjectRequest) -> HttpResponse:
    """Show every policy, with its strength in the judgments."""
    rows = rank_policies(request.project)
    return render(request, "training/policies.html", {"rows": rows, "anchor": find_anchor(rows)})


@project_view(*READERS, post=ADMINS)
def policy_page(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Show where a policy came from, down to the judgments, and what came of it. A POST rolls back to it."""
    project = request.project
    policy = get_object_or_404(project.policies.select_related("parent", "round"), pk=policy_id)
    if request.method == "POST":
        try:
            state_machine.roll_back(project, policy, request.user)
            messages.success(request, _("%(policy)s is the current policy now.") % {"policy": policy.name})
        except RoundError as error:
            messages.error(request, str(error))
        return redirect("policy", project.slug, policy.pk)
    history = lineage.trace_back(policy)
    can_roll_back = policy != project.current_policy and policy in state_machine.once_current(project)
    context = {
        "policy": policy,
        "history": history,
        "round": history[0].round,
        "descendants": lineage.find_descendants(policy),
        "judgments": _judgments_page(history[0].round, request.GET.get("page")),
        "is_current": policy.pk == project.current_policy_id,
        "can_roll_back": can_roll_back and request.membership.role == Role.ADMIN,
        "written": policy.completions.count(),
    }
    return render(request, "training/policy.html", context)


def _judgments_page(round_: Round | None, page: Any) -> Any:
    """Return a page of the judgments that the round's snapshot took."""
    if round_ is None or round_.snapshot is None:
        return None
    taken = (
        Judgment.objects.filter(snapshot_pairs__snapshot=round_.snapshot)
        .select_related("annotator", "comparison__prompt")
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
