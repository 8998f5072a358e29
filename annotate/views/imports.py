"""Bringing prompts and pairs in: upload, check, look, import, with progress that survives a closed page."""

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from annotate.forms.uploads import UploadForm
from annotate.imports import uploads, writing
from annotate.models import Import, Role
from annotate.people.access import ADMINS, ProjectRequest, find_membership, project_view
from annotate.projects import trail

STEP_SECONDS = 1.5  # of work in one request: far below any gateway's patience
INSUFFICIENT_STORAGE = 507
PAGE = 20  # earlier imports


@project_view(*ADMINS)
def imports(request: ProjectRequest) -> HttpResponse:
    """Upload a file, or see what became of earlier ones."""
    project = request.project
    form = UploadForm(request.POST or None, request.FILES or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            upload = uploads.receive(
                project, request.user, form.cleaned_data["file"], form.cleaned_data["format"]
            )
        except uploads.StorageError as error:
            form.add_error("file", str(error))
            status = INSUFFICIENT_STORAGE
        else:
            _work(upload.pk)
            return redirect("import-file", project.slug, upload.pk)
    page = Paginator(project.imports.select_related("created_by"), PAGE).get_page(request.GET.get("page"))
    context = {
        "section": "comparisons",
        "form": form,
        "page": page,
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


@project_view(*ADMINS)
def import_file(request: ProjectRequest, import_id: int) -> HttpResponse:
    """One file: its check, its preview, its progress. A POST does a little more of the work, and polls for more."""
    project = request.project
    upload = get_object_or_404(Import, project=project, pk=import_id)
    hindered = ""
    if request.method == "POST":
        hindered = _work(upload.pk)
        upload.refresh_from_db()
    is_over = upload.state not in Import.LIVE
    expected = upload.counts.get("expected", {})
    context = {
        "section": "comparisons",
        "upload": upload,
        "hindered": hindered,
        "percent": round(100 * upload.position / upload.size) if upload.size else 100,
        "seconds_left": uploads.seconds_left(upload),
        "found": _labelled(upload.counts.get("found", {})),
        "known": _labelled({name: expected.get(name, 0) for name in KNOWN}),
        "differing": expected.get("different", 0),
        "made": _labelled(upload.counts.get("made", {})),
        "preview": uploads.preview(upload) if upload.state == Import.State.READY else [],
        "batch": uploads.batch(upload),
        "unjudged": uploads.unjudged(upload).count() if is_over else 0,
        "judgments": uploads.judgments(upload).count() if is_over else 0,
        "unused_prompts": uploads.unused_prompts(upload).count() if is_over else 0,
    }
    if request.htmx:  # with status 200 even when hindered: it replaces the progress
        return render(request, "annotate/_import.html", context)
    if hindered:
        return render(request, "annotate/import.html", context, status=INSUFFICIENT_STORAGE)
    if request.method == "POST":
        return redirect("import-file", project.slug, import_id)
    return render(request, "annotate/import.html", context)


KNOWN = ("duplicates", "different", "shared_ids")  # what is said of rows that are not plainly new


def _labelled(counts: dict[str, int]) -> list[tuple[str, int]]:
    labels = {
        "prompts": _("Prompts"),
        "pairs": _("Pairs to judge"),
        "judged": _("Judged pairs"),
        "judgments": _("Judgments from elsewhere"),
        "gold": _("Gold comparisons"),
        "updated": _("Updated"),
        "duplicates": _("There already"),
        "different": _("There already, but different"),
        "shared_ids": _("Ids used twice"),
    }
    return [(label, counts[name]) for name, label in labels.items() if counts.get(name)]


@require_POST
@project_view(*ADMINS)
def start_import(request: ProjectRequest, import_id: int) -> HttpResponse:
    project = request.project
    upload = get_object_or_404(Import, project=project, pk=import_id)
    update = request.POST.get("update") == "1"
    with transaction.atomic():
        started = uploads.start(upload, update=update)
        if started:
            trail.record(
                trail.Verb.IMPORTED,
                request.user,
                project=project,
                target=upload.filename,
                **writing.details(update=update),
            )
    if started:
        _work(upload.pk)
    return redirect("import-file", project.slug, import_id)


@require_POST
@project_view(*ADMINS)
def cancel_import(request: ProjectRequest, import_id: int) -> HttpResponse:
    project = request.project
    upload = get_object_or_404(Import, project=project, pk=import_id)
    if not uploads.cancel(upload):
        return redirect("import-file", project.slug, import_id)
    upload.refresh_from_db()  # a step may have ended meanwhile
    if upload.counts.get("made"):
        # Its page says what was brought in, and can take it back.
        return redirect("import-file", project.slug, import_id)
    messages.success(request, _("Import cancelled. Nothing was changed."))
    return redirect("import", project.slug)


@require_POST
@project_view(*ADMINS)
def withdraw_import(request: ProjectRequest, import_id: int) -> HttpResponse:
    """Take what is not judged of a mistaken import out of the queue, and its prompts out of use."""
    project = request.project
    upload = get_object_or_404(Import, project=project, pk=import_id)
    judgments = uploads.judgments(upload).count()
    comparisons, prompts = uploads.withdraw(upload)
    said = ngettext(
        "%(count)s comparison withdrawn: it is handed out no more.",
        "%(count)s comparisons withdrawn: they are handed out no more.",
        comparisons,
    ) % {"count": f"{comparisons:,}"}
    if prompts:
        of_prompts = ngettext(
            "%(count)s prompt withdrawn: no round writes for it.",
            "%(count)s prompts withdrawn: no round writes for them.",
            prompts,
        ) % {"count": f"{prompts:,}"}
        said = f"{said} {of_prompts}" if comparisons else of_prompts
    if judgments:
        of_judgments = ngettext(
            "%(count)s judgment from elsewhere taken back.",
            "%(count)s judgments from elsewhere taken back.",
            judgments,
        ) % {"count": f"{judgments:,}"}
        said = f"{said} {of_judgments}" if comparisons or prompts else of_judgments
    messages.success(request, said)
    return redirect("import-file", project.slug, import_id)
