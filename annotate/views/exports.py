"""Taking data out: pairs and judgments as they stand now, and snapshots exactly as they were frozen."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.middleware import HtmxDetails

from annotate.forms.exports import ExportForm
from annotate.models import Judgment, Project, Role, Snapshot
from annotate.pairs import exports
from annotate.pairs.downloads import rows_download, snapshot_download
from annotate.pairs.snapshots import EXCLUSIONS, PairSettings, aggregate, take_snapshot
from annotate.people.access import get_project
from annotate.projects import trail


@require_GET
def export(request: HttpRequest, slug: str) -> HttpResponse:
    """What there is to take out. Counting looks at every judgment, so the page comes first and asks for it then."""
    project, membership = get_project(request, slug, Role.ADMIN, Role.RESEARCHER)
    form = ExportForm(request.GET, project=project)
    counted = bool(HtmxDetails(request)) or "count" in request.GET
    context: dict[str, Any] = {
        "project": project,
        "membership": membership,
        "form": form,
        "query": request.GET.urlencode(),
        "valid": form.is_valid(),
        "account": account(project, form) if counted and form.is_valid() else None,
    }
    template = "annotate/_account.html" if HtmxDetails(request) else "annotate/export.html"
    return render(request, template, context, status=200 if form.is_valid() else 422)


def account(project: Project, form: ExportForm) -> dict[str, Any]:
    """How the judgments chosen become pairs, and why the others do not."""
    filters = form.filters()
    counts = aggregate(project, form.settings(), filters.judgments()).counts
    return {
        **counts,
        "excluded": [(EXCLUSIONS[reason], count) for reason, count in counts["excluded"].items()],
        "judgment_rows": Judgment.objects.filter(filters.judgments(), project=project).count(),
    }


@require_GET
def export_pairs(request: HttpRequest, slug: str, format: str) -> HttpResponse | StreamingHttpResponse:
    project, membership = get_project(request, slug, Role.ADMIN, Role.RESEARCHER)
    form = ExportForm(request.GET, project=project)
    if not form.is_valid():
        return export(request, slug)
    trail.record(
        trail.Verb.EXPORTED, membership.user, project=project, target=f"pairs.{format}", **form.chosen()
    )
    rows = exports.export_rows(project, form.filters(), form.settings())
    return rows_download(rows, f"{slug}-pairs", format)


@require_GET
def export_judgments(request: HttpRequest, slug: str, format: str) -> HttpResponse | StreamingHttpResponse:
    project, membership = get_project(request, slug, Role.ADMIN, Role.RESEARCHER)
    form = ExportForm(request.GET, project=project)
    if not form.is_valid():
        return export(request, slug)
    trail.record(
        trail.Verb.EXPORTED, membership.user, project=project, target=f"judgments.{format}", **form.chosen()
    )
    rows = exports.judgment_rows(project, form.filters())
    return rows_download(rows, f"{slug}-judgments", format)


# --- Snapshots ---------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def snapshots(request: HttpRequest, slug: str) -> HttpResponse:
    """The snapshots; a POST freezes the pairs as they stand now."""
    project, membership = get_project(request, slug, Role.ADMIN, Role.RESEARCHER)
    if request.method == "POST":
        form = ExportForm(request.POST, project=project)
        settings = form.settings() if form.is_valid() else PairSettings()
        snapshot = take_snapshot(project, membership.user, settings)
        messages.success(request, _("Frozen as snapshot %(digest)s.") % {"digest": snapshot.digest[:12]})
        return redirect("snapshot", slug, snapshot.digest)
    context = {
        "project": project,
        "membership": membership,
        "snapshots": project.snapshots.select_related("created_by").order_by("-pk")[:200],
    }
    return render(request, "annotate/snapshots.html", context)


@require_GET
def snapshot(request: HttpRequest, slug: str, digest: str) -> HttpResponse:
    project, membership = get_project(request, slug, Role.ADMIN, Role.RESEARCHER)
    found = get_object_or_404(Snapshot.objects.select_related("created_by"), project=project, digest=digest)
    excluded = found.counts.get("excluded", {})
    context = {
        "project": project,
        "membership": membership,
        "snapshot": found,
        "account": {
            **found.counts,
            "excluded": [(EXCLUSIONS.get(reason, reason), count) for reason, count in excluded.items()],
        },
    }
    return render(request, "annotate/snapshot.html", context)


@require_GET
def snapshot_file(request: HttpRequest, slug: str, digest: str, shape: str) -> StreamingHttpResponse:
    """A snapshot's pairs: `exact`, the lines whose SHA-256 is its name, or `trl`, for training with TRL."""
    project, membership = get_project(request, slug, Role.ADMIN, Role.RESEARCHER)
    found = get_object_or_404(Snapshot, project=project, digest=digest)
    trail.record(
        trail.Verb.SNAPSHOT_EXPORTED, membership.user, project=project, target=found.digest[:12], shape=shape
    )
    return snapshot_download(found, shape)
