"""Bringing prompts and pairs in: upload, check, look, import, with progress that survives a closed page."""

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST
from django_htmx.middleware import HtmxDetails

from annotate.forms.uploads import UploadForm
from annotate.imports import uploads
from annotate.models import Import, Role
from annotate.people.access import find_membership, get_project
from annotate.projects import trail

STEP_SECONDS = 1.5  # of work in one request: far below any gateway's patience
INSUFFICIENT_STORAGE = 507


def imports(request: HttpRequest, slug: str) -> HttpResponse:
    """Upload a file, or see what became of earlier ones."""
    project, membership = get_project(request, slug, Role.ADMIN)
    form = UploadForm(request.POST or None, request.FILES or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            upload = uploads.receive(
                project, membership.user, form.cleaned_data["file"], form.cleaned_data["format"]
            )
        except uploads.StorageError as error:
            form.add_error("file", str(error))
            status = INSUFFICIENT_STORAGE
        else:
            _work(upload.pk)
            return redirect("import-file", slug, upload.pk)
    context = {
        "project": project,
        "membership": membership,
        "section": "comparisons",
        "form": form,
        "imports": project.imports.select_related("created_by")[:20],
        "limit": settings.IMPORT_LIMIT,
    }
    if form.errors:
        status = max(status, 422)
    return render(request, "annotate/imports.html", context, status=status)


def _work(import_id: int) -> str:
    """Do a little of the work. Return what hinders it, or an empty text."""
    try:
        uploads.work(import_id, STEP_SECONDS)
    except uploads.StorageError as error:
        return str(error)
    return ""


@require_GET
def is_import_allowed(request: HttpRequest, slug: str) -> HttpResponse:
    """Tell the proxy whether to take a file at all: 204 for an admin of the project, 403 for everybody else."""
    user = request.user
    membership = find_membership(user, slug) if user.is_authenticated else None
    is_allowed = membership is not None and membership.role == Role.ADMIN
    return HttpResponse(status=204 if is_allowed else 403)


def import_file(request: HttpRequest, slug: str, import_id: int) -> HttpResponse:
    """One file: its check, its preview, its progress. A POST does a little more of the work, and polls for more."""
    project, membership = get_project(request, slug, Role.ADMIN)
    upload = get_object_or_404(Import, project=project, pk=import_id)
    hindered = ""
    if request.method == "POST":
        hindered = _work(upload.pk)
        upload.refresh_from_db()
    context = {
        "project": project,
        "membership": membership,
        "section": "comparisons",
        "upload": upload,
        "hindered": hindered,
        "percent": round(100 * upload.position / upload.size) if upload.size else 100,
        "seconds_left": uploads.seconds_left(upload),
        "found": _labelled(upload.counts.get("found", {})),
        "made": _labelled(upload.counts.get("made", {})),
        "preview": uploads.preview(upload) if upload.state == Import.State.READY else [],
        "batch": uploads.batch(upload),
        "unjudged": uploads.unjudged(upload).count() if upload.state not in Import.LIVE else 0,
    }
    if HtmxDetails(request):  # with status 200 even when hindered: it replaces the progress
        return render(request, "annotate/_import.html", context)
    if hindered:
        return render(request, "annotate/import.html", context, status=INSUFFICIENT_STORAGE)
    if request.method == "POST":
        return redirect("import-file", slug, import_id)
    return render(request, "annotate/import.html", context)


def _labelled(counts: dict[str, int]) -> list[tuple[str, int]]:
    labels = {
        "prompts": _("Prompts"),
        "pairs": _("Pairs to judge"),
        "gold": _("Gold comparisons"),
        "duplicates": _("There already"),
    }
    return [(label, counts[name]) for name, label in labels.items() if counts.get(name)]


@require_POST
def start_import(request: HttpRequest, slug: str, import_id: int) -> HttpResponse:
    project, membership = get_project(request, slug, Role.ADMIN)
    upload = get_object_or_404(Import, project=project, pk=import_id)
    with transaction.atomic():
        started = uploads.start(upload)
        if started:
            trail.record(trail.Verb.IMPORTED, membership.user, project=project, target=upload.filename)
    if started:
        _work(upload.pk)
    return redirect("import-file", slug, import_id)


@require_POST
def cancel_import(request: HttpRequest, slug: str, import_id: int) -> HttpResponse:
    project, _membership = get_project(request, slug, Role.ADMIN)
    upload = get_object_or_404(Import, project=project, pk=import_id)
    if not uploads.cancel(upload):
        return redirect("import-file", slug, import_id)
    upload.refresh_from_db()  # a step may have ended meanwhile
    if upload.counts.get("made"):
        # Its page says what was brought in, and can take it back.
        return redirect("import-file", slug, import_id)
    messages.success(request, _("Import cancelled. Nothing was changed."))
    return redirect("import", slug)


@require_POST
def withdraw_import(request: HttpRequest, slug: str, import_id: int) -> HttpResponse:
    """Take a mistaken import out of the queue, as far as nobody has judged it."""
    project, _membership = get_project(request, slug, Role.ADMIN)
    upload = get_object_or_404(Import, project=project, pk=import_id)
    count = uploads.withdraw(upload)
    messages.success(
        request,
        ngettext(
            "%(count)s comparison withdrawn: nobody is handed it.",
            "%(count)s comparisons withdrawn: nobody is handed them.",
            count,
        )
        % {"count": f"{count:,}"},
    )
    return redirect("import-file", slug, import_id)
