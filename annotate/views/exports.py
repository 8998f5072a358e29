"""Taking data out: pairs and judgments as they stand now, and snapshots exactly as they were frozen."""

from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from annotate.forms.exports import ExportForm, PairsForm, export_download
from annotate.models import Judgment, Project, Role, Snapshot
from annotate.pairs.downloads import snapshot_download
from annotate.pairs.exports import pseudonym
from annotate.pairs.snapshots import EXCLUSIONS, aggregate, take_snapshot
from annotate.people.access import READERS, ProjectRequest, project_view
from annotate.people.members import judged_or_members
from annotate.projects import trail


@require_GET
@project_view(*READERS)
def export(request: ProjectRequest) -> HttpResponse:
    """Show what can be exported. Counting looks at every judgment, so the page comes first and asks for it then."""
    return _page(request, ExportForm(request.GET, project=request.project))


def _page(request: ProjectRequest, form: ExportForm) -> HttpResponse:
    counted = bool(request.htmx) or "count" in request.GET
    context: dict[str, Any] = {
        "form": form,
        "query": request.GET.urlencode(),
        "valid": form.is_valid(),
        "account": account(request.project, form) if counted and form.is_valid() else None,
        "people": [(pseudonym(person.pk), person) for person in judged_or_members(request.project)]
        if request.membership.role == Role.ADMIN
        else [],
    }
    template = "annotate/_account.html" if request.htmx else "annotate/export.html"
    return render(request, template, context, status=200 if form.is_valid() else 422)


def account(project: Project, form: ExportForm) -> dict[str, Any]:
    """Count the pairs that the chosen judgments become, and the others by reason."""
    counts = aggregate(project, form.settings(), form.filters().judgments()).counts
    rows = Judgment.objects.filter(form.filters(of_judgments=True).judgments(), project=project)
    return {
        **counts,
        "excluded": [(EXCLUSIONS[reason], count) for reason, count in counts["excluded"].items()],
        **rows.aggregate(
            judgment_rows=Count("pk"),
            held_out_rows=Count("pk", filter=Q(comparison__prompt__held_out=True)),
        ),
    }


@require_GET
@project_view(*READERS)
def export_pairs(request: ProjectRequest, format: str) -> HttpResponse | StreamingHttpResponse:
    return _download(request, "pairs", format)


@require_GET
@project_view(*READERS)
def export_judgments(request: ProjectRequest, format: str) -> HttpResponse | StreamingHttpResponse:
    return _download(request, "judgments", format)


def _download(request: ProjectRequest, what: str, format: str) -> HttpResponse | StreamingHttpResponse:
    project = request.project
    form = ExportForm(request.GET, project=project)
    if not form.is_valid():
        return _page(request, form)
    trail.record(
        trail.Verb.EXPORTED, request.user, project=project, target=f"{what}.{format}", **form.chosen()
    )
    return export_download(project, form, what, format)


# --- Snapshots ---------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@project_view(*READERS)
def snapshots(request: ProjectRequest) -> HttpResponse:
    """Show the snapshots, or freeze the pairs as they are now, by the settings of PairsForm if any are sent."""
    project = request.project
    form = PairsForm(request.POST)
    if request.method == "POST" and form.is_valid():
        snapshot = take_snapshot(project, request.user, form.settings())
        messages.success(request, _("Frozen as snapshot %(digest)s.") % {"digest": snapshot.digest[:12]})
        return redirect("snapshot", project.slug, snapshot.digest)
    context = {
        "snapshots": project.snapshots.select_related("created_by")
        .prefetch_related("rounds__project")  # read by the fragment of training/
        .order_by("-pk")[:200],
        "form": form if request.method == "POST" else None,
    }
    status = 422 if request.method == "POST" else 200
    return render(request, "annotate/snapshots.html", context, status=status)


@require_GET
@project_view(*READERS)
def snapshot(request: ProjectRequest, digest: str) -> HttpResponse:
    project = request.project
    found = get_object_or_404(Snapshot.objects.select_related("created_by"), project=project, digest=digest)
    excluded = found.counts.get("excluded", {})
    context = {
        "snapshot": found,
        "account": {
            **found.counts,
            "excluded": [(EXCLUSIONS.get(reason, reason), count) for reason, count in excluded.items()],
        },
    }
    return render(request, "annotate/snapshot.html", context)


@require_GET
@project_view(*READERS)
def snapshot_file(request: ProjectRequest, digest: str, shape: str) -> StreamingHttpResponse:
    """Return a snapshot's pairs: `exact`, the lines whose SHA-256 is its name, or `trl`, for training with TRL."""
    project = request.project
    found = get_object_or_404(Snapshot, project=project, digest=digest)
    trail.record(
        trail.Verb.SNAPSHOT_EXPORTED, request.user, project=project, target=found.digest[:12], shape=shape
    )
    return snapshot_download(found, shape)
