"""Bringing prompts and pairs in: upload, check, look, import, with progress that survives a closed page."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy
from django.views.decorators.http import require_GET, require_POST

from annotate.forms.uploads import OptionsForm, UploadForm
from annotate.imports import uploads, writing
from annotate.imports.files import preview, reception
from annotate.imports.files.options import Options
from annotate.imports.files.refused import refused_lines
from annotate.judgments import places
from annotate.models import Import, Role
from annotate.people.access import ADMINS, ProjectRequest, find_membership, project_view
from annotate.projects import trail
from annotate.sources.errors import FileError
from annotate.storage_errors import StorageError

STEP_SECONDS = 1.5  # of work in one request: far below any gateway's patience
INSUFFICIENT_STORAGE = 507
PAGE = 20  # earlier imports
REASONS_SHOWN = 8


@project_view(*ADMINS)
def imports(request: ProjectRequest) -> HttpResponse:
    """Upload a file, or see what became of earlier ones."""
    project = request.project
    form = UploadForm(request.POST or None, request.FILES or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            upload = _receive(request, form)
        except FileError as error:
            form.add_error("file", str(error))
        except StorageError as error:
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


def _receive(request: ProjectRequest, form: UploadForm) -> Import:
    """Store the file of a form, or the one at its address. Raises FileError and StorageError."""
    given = form.cleaned_data
    if given.get("address"):
        return reception.fetch(request.project, request.user, given["address"], given["format"])
    return reception.receive(request.project, request.user, given["file"], given["format"])


def _work(import_id: int) -> str:
    """Do a little of the work. Return what hinders it, or an empty text."""
    try:
        uploads.work(import_id, STEP_SECONDS)
    except StorageError as error:
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
    """Show one file: its check, its preview, its progress. A POST does a little more of the work and polls on."""
    project = request.project
    upload = get_object_or_404(Import, project=project, pk=import_id)
    hindered = ""
    if request.method == "POST":
        hindered = _work(upload.pk)
        upload = get_object_or_404(Import, project=project, pk=import_id)
    return _show(request, upload, hindered)


def _show(
    request: ProjectRequest, upload: Import, hindered: str = "", form: OptionsForm | None = None
) -> HttpResponse:
    context = _described(upload) | {
        "section": "comparisons",
        "hindered": hindered,
        "form": form or _options_form(upload),
    }
    if request.htmx:  # with status 200 even when hindered: it replaces the progress
        return render(request, "annotate/_import.html", context)
    if hindered:
        return render(request, "annotate/import.html", context, status=INSUFFICIENT_STORAGE)
    if form is not None:
        return render(request, "annotate/import.html", context, status=422)
    if request.method == "POST":
        return redirect("import-file", request.project.slug, upload.pk)
    return render(request, "annotate/import.html", context)


def _options_form(upload: Import, data: Any = None) -> OptionsForm | None:
    """Return the form of a file that waits for a person, or None."""
    if not uploads.takes_options(upload):
        return None
    return OptionsForm(
        data, options=Options.of(upload), counts=upload.counts, proposed=reception.proposed(upload)
    )


def _described(upload: Import) -> dict[str, Any]:
    """Return what the page says of a file, by its state."""
    is_over, counts, options = upload.state not in Import.LIVE, upload.counts, Options.of(upload)
    expected = counts.get("expected", {})
    is_waiting = upload.state in (Import.State.MAPPING, Import.State.READY, Import.State.REFUSED)
    return {
        "upload": upload,
        "options": options,
        "sample": upload.options.get("sample", []),
        "percent": round(100 * upload.position / upload.size) if upload.size else 100,
        "seconds_left": uploads.seconds_left(upload),
        "rows": counts.get("rows", 0),
        "taken": counts.get("rows", 0) - counts.get("wrong", 0),
        "found": _labelled(counts.get("found", {})),
        "reasons": _reasons(counts),
        "annotators": len(counts.get("annotators", {})),
        "unused": _unused(counts.get("unused", {})),
        "adds": _in_words({name: expected[name] for name in expected if name in writing.NEWS}),
        "known": _labelled({name: expected.get(name, 0) for name in KNOWN}),
        "differing": expected.get("different", 0),
        "made": _in_words(counts.get("made", {})),
        "preview": preview.preview(upload) if upload.state == Import.State.READY else [],
        "raw": preview.table(upload, options) if is_waiting and counts.get("made") is None else None,
        "batch": uploads.batch(upload),
        "withdrawn": uploads.find_withdrawn(upload) if is_over and counts.get("made") else None,
        "unjudged": uploads.unjudged(upload).count() if is_over else 0,
        "judgments": uploads.judgments(upload).count() if is_over else 0,
        "withdrawable_prompts": uploads.withdrawable_prompts(upload).count() if is_over else 0,
        **(places.count_places(upload.project, uploads.batch(upload)) if is_over else {}),
    }


KNOWN = ("duplicates", "different", "shared_ids")  # what is said of rows that are not plainly new


def _labelled(counts: dict[str, int]) -> list[tuple[str, int]]:
    labels = {
        "prompts": _("Prompts"),
        "pairs": _("Pairs to judge"),
        "judged": _("Judged pairs"),
        "judgments": _("Judgments from elsewhere"),
        "gold": _("Gold comparisons"),
        "duplicates": _("There already"),
        "different": _("There already, but different"),
        "shared_ids": _("Ids used twice"),
    }
    return [(label, counts[name]) for name, label in labels.items() if counts.get(name)]


WORDS = {
    "prompts": ngettext_lazy("%(shown)s prompt", "%(shown)s prompts", "count"),
    "pairs": ngettext_lazy("%(shown)s pair to judge", "%(shown)s pairs to judge", "count"),
    "judged": ngettext_lazy("%(shown)s judged pair", "%(shown)s judged pairs", "count"),
    "judgments": ngettext_lazy(
        "%(shown)s judgment from elsewhere", "%(shown)s judgments from elsewhere", "count"
    ),
    "gold": ngettext_lazy("%(shown)s gold comparison", "%(shown)s gold comparisons", "count"),
    "updated": ngettext_lazy("%(shown)s updated", "%(shown)s updated", "count"),
    "duplicates": ngettext_lazy("%(shown)s there already", "%(shown)s there already", "count"),
    "different": ngettext_lazy(
        "%(shown)s there already but different", "%(shown)s there already but different", "count"
    ),
    "shared_ids": ngettext_lazy("%(shown)s id used twice", "%(shown)s ids used twice", "count"),
}


def _in_words(counts: dict[str, int]) -> list[str]:
    """Return the counts as words for a sentence, such as "2 prompts"."""
    found = {name: counts[name] for name in WORDS if counts.get(name)}
    return [WORDS[name] % {"count": count, "shown": intcomma(count)} for name, count in found.items()]


def _reasons(counts: dict[str, Any]) -> list[tuple[str, int]]:
    """Return why rows are left out, the most frequent reasons first, if some are shared."""
    reasons = sorted(counts.get("reasons", {}).items(), key=lambda one: -one[1])[:REASONS_SHOWN]
    others = counts.get("wrong", 0) - sum(count for _reason, count in reasons)
    if not reasons or reasons[0][1] == 1:
        return []
    return [*reasons, (_("Other reasons"), others)] if others else reasons


def _unused(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return what of the rows is not taken, by its name for a person."""
    labels = {
        "completions": _("Completions beside the prompts"),
        "opinions": _("Verdicts in the file"),
        "identical": _("Pairs of identical completions"),
        "unjudged": _("Pairs that no annotator judged"),
        "disagreed": _("Pairs without one agreed verdict"),
        "metadata": _("Values of metadata that are too large"),
        "held_out": _("Prompts held out there: here the share of this project decides"),
        "arms": _("Arms of the draw that made a comparison"),
        "parts": _("Parts of a record, such as replies without a rank"),
    }
    return [(labels.get(name, name), count) for name, count in counts.items() if count]


@require_POST
@project_view(*ADMINS)
def check_import(request: ProjectRequest, import_id: int) -> HttpResponse:
    """Check a file again, by other options."""
    upload = get_object_or_404(Import, project=request.project, pk=import_id)
    form = _options_form(upload, request.POST)
    if form is None:
        return redirect("import-file", request.project.slug, import_id)
    if not form.is_valid():
        return _show(request, upload, form=form)
    if otherwise := form.read_otherwise():
        try:
            reception.read_otherwise(upload, **otherwise)
        except FileError as error:
            form.add_error(next(iter(otherwise)), str(error))
            return _show(request, upload, form=form)
        except StorageError as error:
            upload = get_object_or_404(Import, project=request.project, pk=import_id)  # as it was before
            return _show(request, upload, str(error))
        except FileNotFoundError:
            form.add_error(None, _("The file is no longer in the server’s storage: upload it again."))
            return _show(request, upload, form=form)
    else:
        uploads.check_again(upload, form.chosen())
    _work(upload.pk)
    return redirect("import-file", request.project.slug, import_id)


@require_GET
@project_view(*ADMINS)
def refused_rows(request: ProjectRequest, import_id: int) -> StreamingHttpResponse:
    """Download the rows that cannot be used, with reasons, as JSON Lines."""
    upload = get_object_or_404(Import, project=request.project, pk=import_id)
    answer = StreamingHttpResponse(refused_lines(upload), content_type="application/jsonl")
    stem = upload.filename.rpartition("/")[2].split(".")[0] or "rows"
    answer["Content-Disposition"] = content_disposition_header(True, f"{stem}-refused.jsonl") or "attachment"
    return answer


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
    upload = get_object_or_404(Import, project=project, pk=import_id)  # a step may have ended meanwhile
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
    comparisons, prompts = uploads.withdraw(upload, request.user)
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


@require_POST
@project_view(*ADMINS)
def ask_people(request: ProjectRequest, import_id: int | None = None) -> HttpResponse:
    """Have people judge what an import, or all of them, brought in judged, too; with `action` stop, no more."""
    project = request.project
    upload = None if import_id is None else get_object_or_404(Import, project=project, pk=import_id)
    batch = uploads.batch(upload) if upload else ""
    if request.POST.get("action") == "stop":
        count = places.ask_no_more(project, batch)
        verb, said = (
            trail.Verb.ASKED_NO_MORE,
            ngettext(
                "%(count)s comparison is handed out no more. Verdicts that people gave are kept.",
                "%(count)s comparisons are handed out no more. Verdicts that people gave are kept.",
                count,
            ),
        )
    else:
        count = places.ask_people(project, batch)
        verb, said = (
            trail.Verb.ASKED,
            ngettext(
                "%(count)s comparison is handed out to annotators, who do not see the imported verdicts.",
                "%(count)s comparisons are handed out to annotators, who do not see the imported verdicts.",
                count,
            ),
        )
    if count:
        trail.record(verb, request.user, project=project, target=upload.filename if upload else "")
        messages.success(request, said % {"count": f"{count:,}"})
    if upload is None:
        return redirect(reverse("comparisons", args=[project.slug]) + "?judged_by=imported")
    return redirect("import-file", project.slug, upload.pk)
