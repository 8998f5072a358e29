"""Taking data out: files of every format, at once or prepared, a push to a hub, and snapshots as they were frozen."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate import attempts, tasks
from annotate.errors import RefusalError
from annotate.exports import account, card, hub, jobs
from annotate.forms.exports import ExportForm, PairsForm, PushForm, export_download, read_selection
from annotate.forms.pair_settings import name_pair_settings
from annotate.models import Export, Role, Snapshot, SnapshotJob, User
from annotate.pairs.downloads import snapshot_download
from annotate.pairs.filters import REASONS
from annotate.pairs.frozen import jobs as snapshot_jobs
from annotate.pairs.settings import EXCLUSIONS
from annotate.people.access import READERS, ProjectRequest, project_view
from annotate.people.pseudonyms import pseudonym
from annotate.projects import trail
from annotate.projects.sizes import is_large

Answer = HttpResponse | StreamingHttpResponse | FileResponse
JOBS_SHOWN = 10


@require_GET
@project_view(*READERS)
def export(request: ProjectRequest) -> HttpResponse:
    """Show what can be exported. Counting looks at every judgment, so the page comes first and asks for it then."""
    return _page(request, ExportForm(request.GET, project=request.project))


def _page(request: ProjectRequest, form: ExportForm, push: PushForm | None = None) -> HttpResponse:
    counted = bool(request.htmx) or "count" in request.GET
    valid = form.is_valid()
    context: dict[str, Any] = {
        "form": form,
        "push": push or PushForm(),
        "query": form.query() if valid else {},
        "valid": valid,
        "account": _account(form) if counted and valid else None,
        "is_large": is_large(request.project),
        "jobs": _jobs(request)[:JOBS_SHOWN],
        "people": _numbered(form) if request.membership.role == Role.ADMIN else [],
    }
    template = "annotate/_export_account.html" if request.htmx else "annotate/export.html"
    return render(
        request, template, context, status=200 if valid and (push is None or push.is_valid()) else 422
    )


def _numbered(form: ExportForm) -> list[tuple[str, User]]:
    """Return the annotators that the form offers by their pseudonyms."""
    offered = form.fields["annotator"].offered  # type: ignore[attr-defined] # an AnnotatorsField
    return [(pseudonym(person.pk), person) for person in offered]


def _account(form: ExportForm) -> dict[str, Any]:
    """Count the pairs and the rows of judgments that a valid form asks for, and what stays by reason."""
    selection = form.selection()
    found = account.count(form.project, form.filters(), selection.settings, selection.snapshot)
    is_mixed = not selection.texts and selection.format.source != "judgments" and len(selection.types()) > 1
    return {
        **found,
        "excluded": [(REASONS.get(reason, reason), count) for reason, count in found["excluded"].items()],
        "is_mixed": is_mixed,
        "example": None if is_mixed else selection.example(),
        **account.count_judgments(form.project, form.filters(of_judgments=True)),
    }


@require_GET
@project_view(*READERS)
def export_file(request: ProjectRequest, format: str = "") -> Answer:
    """Return a file of the format that the query, or the address, names."""
    form = ExportForm(request.GET, project=request.project, format=format)
    if not form.is_valid():
        return _page(request, form)
    try:
        answer = export_download(form)
    except RefusalError as refused:
        form.add_error(refused.field or None, refused.message)
        return _page(request, form)
    _record(request, form.chosen_format.name, form.chosen())
    return answer


@require_GET
@project_view(*READERS)
def export_card(request: ProjectRequest) -> HttpResponse:
    """Return the dataset card of what a query asks for, without its data."""
    form = ExportForm(request.GET, project=request.project, format="datasets")
    if not form.is_valid():
        return _page(request, form)
    selection = form.selection()
    text = card.write(selection, *card.observe(selection))
    _record(request, "card", form.chosen())
    headers = {"Content-Disposition": f'attachment; filename="{request.project.slug}-README.md"'}
    return HttpResponse(text, content_type="text/markdown; charset=utf-8", headers=headers)


def _record(request: ProjectRequest, target: str, details: dict[str, Any]) -> None:
    trail.record(trail.Verb.EXPORTED, request.user, project=request.project, target=target, **details)


# --- Files that are prepared ---------------------------------------------------------------------------------------


@require_POST
@project_view(*READERS)
def prepare(request: ProjectRequest) -> Answer:
    """Have a file written that takes long, and show how far it is."""
    form = ExportForm(request.POST, project=request.project)
    if not form.is_valid():
        return _page(request, form)
    try:
        job = jobs.request(form.selection(), request.user, form.query(), tasks.send)
    except RefusalError as refused:
        form.add_error(None, refused.message)
        return _page(request, form)
    _record(request, form.chosen_format.name, form.chosen())
    return redirect("export-job", request.project.slug, job.pk)


@require_GET
@project_view(*READERS)
def job(request: ProjectRequest, job_id: UUID) -> HttpResponse:
    """Show how far a file is. If no worker took it, it is written here."""
    found = get_object_or_404(_jobs(request), pk=job_id)
    if attempts.is_waiting(found):
        jobs.write_beside(found, read_selection)
    share = min(found.rows / found.expected, 1) if found.expected else None
    context = {"job": found, "share": share, "percent": round(100 * share) if share is not None else None}
    return render(
        request, "annotate/_export_job.html" if request.htmx else "annotate/export_job.html", context
    )


def _jobs(request: ProjectRequest) -> QuerySet[Export]:
    return Export.objects.filter(project=request.project).with_expiry().select_related("created_by")


@require_GET
@project_view(*READERS)
def job_file(request: ProjectRequest, job_id: UUID) -> FileResponse:
    """Return a prepared file until it expires."""
    found = get_object_or_404(Export, project=request.project, pk=job_id)
    return jobs.download(found)


@require_POST
@project_view(*READERS)
def cancel_job(request: ProjectRequest, job_id: UUID) -> HttpResponse:
    found = get_object_or_404(Export, project=request.project, pk=job_id)
    found.cancel()
    return redirect("export-job", request.project.slug, found.pk)


@require_POST
@project_view(*READERS)
def push(request: ProjectRequest) -> HttpResponse:
    """Push the pairs as a dataset to a hub, with a token that is used here and kept nowhere."""
    form, given = ExportForm(request.POST, project=request.project), PushForm(request.POST)
    if not form.is_valid() or not given.is_valid():
        return _page(request, form, given)
    try:
        if is_large(request.project):
            raise RefusalError(
                _("This project is too large to push from a page: use the command on the server.")
            )
        wanted = given.cleaned_data
        address = hub.push(form.selection(), wanted["repository"], wanted["token"], public=wanted["public"])
    except RefusalError as refused:
        given.add_error(refused.field if refused.field in given.fields else None, refused.message)
        return _page(request, form, given)
    _record(request, f"{wanted['repository']} on the hub", form.chosen())
    messages.success(request, _("Pushed to %(address)s.") % {"address": address})
    return redirect("export", request.project.slug)


# --- Snapshots ---------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@project_view(*READERS)
def snapshots(request: ProjectRequest) -> HttpResponse:
    """Show the snapshots, or freeze the pairs as they are now, by the settings of PairsForm if any are sent."""
    form = PairsForm(request.POST)
    if request.method == "POST" and form.is_valid():
        try:
            return _freeze(request, form)
        except RefusalError as refused:
            form.add_error(refused.field or None, refused.message)
    project = request.project
    unfinished = project.snapshot_jobs.exclude(state=SnapshotJob.State.DONE)
    context = {
        "snapshots": project.snapshots.select_related("created_by")
        .prefetch_related("rounds__project")  # read by the fragment of training/
        .order_by("-pk")[:200],
        "jobs": unfinished.select_related("created_by")[:JOBS_SHOWN],
        "form": form if request.method == "POST" else None,
    }
    status = 422 if request.method == "POST" else 200
    return render(request, "annotate/snapshots.html", context, status=status)


def _freeze(request: ProjectRequest, form: PairsForm) -> HttpResponse:
    project = request.project
    found = snapshot_jobs.freeze(project, request.user, form.settings(), tasks.send_snapshot)
    if isinstance(found, SnapshotJob):
        return redirect("snapshot-job", project.slug, found.pk)
    messages.success(request, _("Frozen as snapshot %(digest)s.") % {"digest": found.digest[:12]})
    return redirect("snapshot", project.slug, found.digest)


@require_GET
@project_view(*READERS)
def snapshot_job(request: ProjectRequest, job_id: UUID) -> HttpResponse:
    """Show how far a snapshot is. If no worker took its job, it is taken here."""
    found = get_object_or_404(
        SnapshotJob.objects.select_related("snapshot"), project=request.project, pk=job_id
    )
    if attempts.is_waiting(found):
        snapshot_jobs.take_beside(found)
    if found.snapshot is not None and not request.htmx:
        return redirect("snapshot", request.project.slug, found.snapshot.digest)
    context = {"job": found, "percent": round(100 * found.share)}
    template = "annotate/_snapshot_job.html" if request.htmx else "annotate/snapshot_job.html"
    return render(request, template, context)


@require_POST
@project_view(*READERS)
def cancel_snapshot_job(request: ProjectRequest, job_id: UUID) -> HttpResponse:
    found = get_object_or_404(SnapshotJob, project=request.project, pk=job_id)
    found.cancel()
    return redirect("snapshot-job", request.project.slug, found.pk)


@require_GET
@project_view(*READERS)
def snapshot(request: ProjectRequest, digest: str) -> HttpResponse:
    project = request.project
    found = get_object_or_404(Snapshot.objects.select_related("created_by"), project=project, digest=digest)
    excluded = found.counts.get("excluded", {})
    context = {
        "snapshot": found,
        "settings": name_pair_settings(found.settings, project),
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
