"""Looking through comparisons, one comparison with everything known of it, and the flags that people raised."""

from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.forms.search import FilterForm
from annotate.judgments import drafts
from annotate.models import Comparison, Flag, Role
from annotate.people import reading
from annotate.people.access import ADMINS, READERS, ProjectRequest, project_view
from annotate.projects import trail
from annotate.reports.search import EMPTY, browse
from annotate.views.comparison_view import Texts, show_metadata


@require_GET
@project_view(*READERS)
def comparisons(request: ProjectRequest) -> HttpResponse:
    """Show the list. `before` is the key where an older page starts."""
    project = request.project
    form = FilterForm(request.GET, project=project)
    before = request.GET.get("before", "")
    page = browse(project, form.cleaned_data, trail.parse_key(before)) if form.is_valid() else EMPTY
    asked = {name: value for name, value in request.GET.items() if value and name != "before"}
    context = {
        "form": form,
        "page": page,
        "filtered": bool(asked),
        "in_sight": FilterForm.IN_SIGHT,
        "more": FilterForm.MORE,
        "more_in_use": not asked.keys().isdisjoint(FilterForm.MORE),
        "older": urlencode({**asked, "before": page.older}) if page.older else "",
        "is_first": not before,
        "newest": urlencode(asked),
    }
    return render(request, "annotate/comparisons.html", context, status=422 if form.errors else 200)


@never_cache
@require_GET
@project_view(*READERS)
def comparison(request: ProjectRequest, comparison_id: int) -> HttpResponse:
    """One comparison, read-only: completions, verdicts with their history, and where it came from and went."""
    found = get_object_or_404(
        Comparison.objects.select_related("prompt", "first__policy", "second__policy", "repeat_of"),
        project=request.project,
        pk=comparison_id,
    )
    judgments = found.judgments.select_related("annotator").order_by("-created_at", "-pk")
    claims = found.claims.filter(state="live", expires_at__gt=timezone.now()).select_related("annotator")
    pairs = found.snapshot_pairs.select_related("snapshot").prefetch_related("snapshot__rounds__project")
    reading.choose_view(request.membership, request.GET.get("view", ""))
    context = {
        "comparison": found,
        "texts": Texts.of_comparison(found, request.project, reading.view_of(request.membership)),
        "metadata": [show_metadata(key, value) for key, value in found.prompt.metadata.items()],
        "judgments": judgments,
        "claims": claims,
        "pairs": pairs.order_by("-snapshot_id"),
        "flags": found.flags.open().select_related("annotator"),
        "is_admin": request.membership.role == Role.ADMIN,
    }
    return render(request, "annotate/comparison.html", context)


@require_POST
@project_view(*ADMINS)
def change_comparison(request: ProjectRequest, comparison_id: int) -> HttpResponse:
    """Withdraw or restore a comparison, or make it gold: `action` is withdraw, restore, or gold with `preferred`."""
    found = get_object_or_404(Comparison, project=request.project, pk=comparison_id)
    match request.POST.get("action"):
        case "withdraw":
            found.withdraw()
            messages.success(
                request,
                _("Withdrawn: it is handed out no more, and no pair is made of it. Verdicts are kept."),
            )
        case "restore":
            found.restore()
            messages.success(request, _("Back in the queue."))
        case "gold":
            preferred = {str(found.first_id): found.first_id, str(found.second_id): found.second_id}.get(
                request.POST.get("preferred", "")
            )
            if preferred is None:
                messages.error(request, _("Choose which completion is the better one."))
            elif found.make_gold(preferred):
                messages.success(request, _("It is a gold comparison now: verdicts on it measure accuracy."))
            else:
                messages.error(
                    request, _("Only a standard comparison can become a gold one. Nothing was changed.")
                )
    return redirect("comparison", request.project.slug, comparison_id)


@require_GET
@project_view(*ADMINS)
def flags(request: ProjectRequest) -> HttpResponse:
    of_project = Flag.objects.filter(comparison__project=request.project).select_related(
        "annotator", "comparison__prompt"
    )
    context = {
        "flags": of_project.open().order_by("created_at")[:200],
        "section": "comparisons",
        "resolved": of_project.filter(resolved_at__isnull=False).order_by("-resolved_at")[:20],
    }
    return render(request, "annotate/flags.html", context)


@require_POST
@project_view(*ADMINS)
def resolve_flag(request: ProjectRequest, flag_id: int) -> HttpResponse:
    project = request.project
    if drafts.resolve_flag(project, flag_id):
        messages.success(request, _("Flag resolved."))
    return redirect("flags", project.slug)
