"""The pages of rounds. Admins act; researchers look; annotators stay blind to which policy wrote what."""

from pathlib import Path
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET

from annotate.errors import MissingError, RefusalError
from annotate.models import Project, Role, User
from annotate.people.access import ADMINS, READERS, ProjectRequest, project_view
from annotate.projects import trail
from annotate.projects.prompts import hold_out_more, sensible_more, spare_prompts
from training.models import DryRun, Round, Sweep, Worker
from training.provenance.portability import PortableChunks, names_paths
from training.provenance.reproduction import END_SIZE, archive_chunks, can_repeat, list_members
from training.rounds import deciding, state_machine
from training.rounds.plan import MOST_COMPARISONS, Plan, dotted
from training.rounds.readiness import MIN_PAIRS, find_readiness
from training.rounds.starts import RoundError
from training.standings.gates import forecast, measure_gates
from training.storage.folders import Folder
from training.storage.objects import StorageFaultError
from training.usage.naming import has_trainable, has_writer
from training.views.beginnings import Like
from training.views.charts import round_charts
from training.views.choosing import audit_context
from training.views.forms import ResumeForm
from training.views.outcome import gallery_page, outcome
from training.views.using.round_forms import TrainingForm, WritingForm

MOST_NUMBER = 999_999_999  # of a round or an estimate
MOST_HELD_OUT = 999_999  # prompts, at once
DOWNLOADS = {
    "config.json": gettext_lazy("Every setting"),
    "pairs.jsonl": gettext_lazy("The pairs it was trained on"),
    "heldout.jsonl": gettext_lazy("The held-out pairs"),
    "metrics.jsonl": gettext_lazy("Metrics, one line a step"),
    "done.json": gettext_lazy("Summary, hashes and library versions"),
    "assisted_pairs.jsonl": gettext_lazy("The pairs that a probe labelled"),
    "assist.log": gettext_lazy("What labelling pairs said"),
    "scale.log": gettext_lazy("What measuring KL said"),
    "train.log": gettext_lazy("What training said"),
    "prompts.jsonl": gettext_lazy("The prompts it wrote for"),
    "samples.jsonl": gettext_lazy("What it wrote"),
    "adapter/adapter_config.json": gettext_lazy("The adapter's shape"),
    "adapter/adapter_model.safetensors": gettext_lazy("The adapter's weights"),
}


@project_view(*READERS, post=ADMINS)
def round_list(request: ProjectRequest) -> HttpResponse:
    """List the rounds of a project. A POST starts one, with the action `write` one that does not train."""
    project = request.project
    form: TrainingForm | WritingForm | None = None
    if request.POST.get("action") == "hold_out":
        return _hold_out_more(request)
    if request.method == "POST":
        form = (WritingForm if request.POST.get("action") == "write" else TrainingForm)(project, request.POST)
        if form.is_valid():
            try:
                return redirect(_start(project, request.user, form))
            except RefusalError as error:
                form.refuse(error)
    return show_list(request, form)


def show_list(request: ProjectRequest, form: TrainingForm | WritingForm | None) -> HttpResponse:
    """Show the list of rounds, with a form that was refused in its place."""
    project = request.project
    listed = project.rounds.select_related("start_policy", "result_policy", "created_by")
    gates = measure_gates(round_ for round_ in listed if round_.result_policy_id)
    context: dict[str, Any] = {
        "rounds": [(round_, gates.get(round_.pk)) for round_ in listed],
        "open_round": next((r for r in listed if r.is_live or r.state == Round.State.READY), None),
        "workers": Worker.for_training(),
        "sweep": Sweep.last(),
        "sweep_overdue": Sweep.is_overdue(),
        **audit_context(project),
    }
    if request.membership.role == Role.ADMIN:
        context["closed"] = _closed(project)
        context["can_write"] = not project.archived_at and has_writer(project)
        like = _like(request, project)
        is_writing = like is not None and not like.trains
        context["form"] = (
            form
            if isinstance(form, TrainingForm)
            else TrainingForm(
                project, like=None if is_writing else like, ignores_project="recommended" in request.GET
            )
        )
        context["write_form"] = (
            form if isinstance(form, WritingForm) else WritingForm(project, like=like if is_writing else None)
        )
        context["nothing_yet"] = not project.comparisons.exists()
    return render(request, "training/rounds.html", context, status=422 if form else 200)


def _closed(project: Project) -> str:
    """Return why a project trains nothing, whatever is entered: archived, no_weights or no_model. Empty if it does."""
    if project.archived_at:
        return "archived"
    if has_trainable(project):
        return ""
    return "no_weights" if has_writer(project) else "no_model"


def _hold_out_more(request: ProjectRequest) -> HttpResponse:
    """Hold out as many more prompts as the button says."""
    count = _number(request.POST, "count", MOST_HELD_OUT) or 0
    with transaction.atomic():
        held = hold_out_more(request.project, count) if count else 0
        if held:
            target = ngettext("%(count)d prompt", "%(count)d prompts", held) % {"count": held}
            trail.record(trail.Verb.HELD_OUT, request.user, project=request.project, target=target)
    sentence = ngettext("%(count)d more prompt is held out.", "%(count)d more prompts are held out.", held)
    messages.success(request, sentence % {"count": held})
    return redirect("rounds", request.project.slug)


def _start(project: Project, by: User, form: TrainingForm | WritingForm) -> Round:
    if isinstance(form, WritingForm):
        count, choosing = form.cleaned_data["count"], form.choosing()
        return state_machine.write(project, by, count, form.sampling(), choosing=choosing, **form.writers())
    return state_machine.start(project, by, form.chosen(), **form.policies())


def _like(request: HttpRequest, project: Project) -> Like | None:
    """Return settings to begin with: those of the round of a number, or of an estimate with the proposals taken."""
    if number := _number(request.GET, "like"):
        round_ = project.rounds.filter(number=number).first()
        return Like.round(round_) if round_ else None
    if number := _number(request.GET, "estimate"):
        estimate = project.estimates.exclude(kind=DryRun.Kind.MODEL).filter(pk=number).first()
        return Like.estimate(estimate, request.GET.getlist("take")) if estimate else None
    return None


def _number(given: QueryDict, name: str, most: int = MOST_NUMBER) -> int | None:
    """Return a whole number from 0 to `most` that a query or a form gives, or None."""
    text = given.get(name, "")
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    return int(text) if is_number and int(text) <= most else None


@require_GET
@project_view(*READERS)
def ready_pairs(request: ProjectRequest) -> HttpResponse:
    """Show how many pairs a round would have now, as a page or for one.

    With `start` in the query it says what became of the other judgments and what the gate can show. It may disable the
    button that starts a round, and says why.
    """
    starts = "start" in request.GET
    context: dict[str, Any] = {"min_pairs": MIN_PAIRS, "starts": starts}
    try:
        readiness = find_readiness(request.project)
    except RoundError as error:
        context |= {"refused": str(error), "cannot_start": _("See above what is missing.")}
    else:
        context |= {"account": readiness.account, "last": readiness.last}
        context["new_judgments"] = readiness.new_judgments
        if starts:
            context |= _prospects(request)
        if not readiness.has_enough:
            context["cannot_start"] = _("A round needs %(min)d pairs to train on.") % {"min": MIN_PAIRS}
    return render(request, "training/_ready.html" if request.htmx else "training/ready.html", context)


def _prospects(request: ProjectRequest) -> dict[str, Any]:
    """Return what the next gate can show, and how many more prompts may be held out for it."""
    planned = _gate_size(request)
    found = forecast(request.project, planned)
    spare = min(spare_prompts(request.project).count(), sensible_more(request.project, planned))
    return {"forecast": found, "gate_size": planned, "spare": spare}


def _gate_size(request: ProjectRequest) -> int:
    """Return how many gate comparisons the form asks for. What cannot be asked for gives those of the project."""
    entered = _number(request.GET, "gate_comparisons", MOST_COMPARISONS)
    if entered is not None:
        return entered
    usual: int = request.project.sampling_settings.get("gate_comparisons", Plan.gate_comparisons)
    return usual


@project_view(*READERS, post=ADMINS)
def round_page(request: ProjectRequest, number: int) -> HttpResponse:
    """Show a round: live while it runs, its outcome afterwards. A POST's `action` says what to do with it."""
    round_ = _round(request.project, number)
    if request.method == "POST":
        return _act(request, round_)
    return render(request, "training/round.html", _page(round_))


def _page(round_: Round) -> dict[str, Any]:
    return {
        "round": round_,
        "plan": round_.settings,
        "settings_list": list(dotted(round_.settings)),
        "events": round_.events.select_related("by"),
        "files": _files(round_),
        "can_repeat": can_repeat(round_),
        "resume_form": ResumeForm(round_) if round_.can_resume else None,
        **_live(round_),
        **(outcome(round_) if round_.result_policy_id or not round_.trains else {}),
    }


def _act(request: ProjectRequest, round_: Round) -> HttpResponse:
    by, number, action = request.user, round_.number, request.POST.get("action")
    try:
        if action == "resume":
            state_machine.resume(round_, by)
        elif action == "resume-with":
            form = ResumeForm(round_, request.POST)
            if not form.is_valid():
                return render(
                    request, "training/round.html", _page(round_) | {"resume_form": form}, status=422
                )
            state_machine.resume(round_, by, form.changes())
        elif action in _MOVES:
            act, done, too_late = _MOVES[action]
            if act(round_, by):
                messages.success(request, done % {"number": number})
            else:
                messages.error(request, too_late % {"number": number})
        else:
            messages.error(request, _("A round can be cancelled, resumed, promoted or rejected."))
    except RoundError as error:
        messages.error(request, str(error))
    return redirect(round_)


_MOVES = {
    "cancel": (
        state_machine.cancel,
        gettext_lazy("Round %(number)s was cancelled."),
        gettext_lazy("Round %(number)s is over already."),
    ),
    "promote": (
        deciding.promote,
        gettext_lazy("Round %(number)s was promoted: its policy is the current one now."),
        gettext_lazy("Round %(number)s was decided already, or is not ready."),
    ),
    "reject": (
        deciding.reject,
        gettext_lazy(
            "Round %(number)s was rejected: the policy before it stays, and its open comparisons are withdrawn."
        ),
        gettext_lazy("Round %(number)s was decided already, or is not ready."),
    ),
}


@require_GET
@project_view(*READERS)
def round_live(request: ProjectRequest, number: int) -> HttpResponse:
    """Show the live part of a round's page, polled. When the state has changed, show all of the page's <main>.

    It is morphed into the open page: what is unfolded there, and what has the focus, stays.
    """
    round_ = _round(request.project, number)
    context: dict[str, Any] = {"round": round_}
    if request.GET.get("state") == round_.state:
        return render(request, "training/_live.html", context | _live(round_))
    context |= _page(round_) | {"layout": "content.html"}
    response = render(request, "training/round.html", context)
    response["HX-Retarget"], response["HX-Reswap"] = "#main", "innerMorph"
    return response


def _round(project: Project, number: int) -> Round:
    found = project.rounds.select_related(
        "start_policy", "result_policy", "snapshot", "created_by", "retrains"
    )
    round_ = get_object_or_404(found, number=number)
    round_.project = project
    if round_.retrains is not None:
        round_.retrains.project = project
    return round_


def _live(round_: Round) -> dict[str, Any]:
    """Return what changes while a round runs."""
    return {
        "charts": round_charts(round_),
        "worker_missing": round_.is_live and not Worker.for_training(),
        "share_done": round_.step / round_.total_steps if round_.total_steps else None,
    }


@require_GET
@project_view(*READERS)
def gallery(request: ProjectRequest, number: int) -> HttpResponse:
    """Show a page of the same prompts, continued by the policy before and by the new one."""
    round_ = _round(request.project, number)
    context = {"round": round_, "gallery": gallery_page(round_, request.GET.get("page"))}
    return render(request, "training/gallery.html", context)


def _files(round_: Round) -> list[tuple[str, str, int]]:
    """Return the files of the run directory that can be downloaded: name, what it is, bytes."""
    folder = Folder(round_.folder)
    return [(name, str(what), file.size) for name, what in DOWNLOADS.items() if (file := folder.find(name))]


@require_GET
@project_view(*READERS)
def round_file(request: ProjectRequest, number: int, name: str) -> FileResponse | StreamingHttpResponse:
    """Send a file of the run directory, if it is one of those that are offered, without paths of this server."""
    project = request.project
    round_ = _round(project, number)
    found = Folder(round_.folder).find(name) if name in DOWNLOADS else None
    if found is None:
        raise Http404
    try:
        file = found.open()
    except (OSError, StorageFaultError) as error:
        raise MissingError(_("The storage does not give this file now. Try again later.")) from error
    if request.method == "GET":
        trail.record(trail.Verb.EXPORTED, request.user, project=project, target=f"{name} of round {number}")
    filename = f"{project.slug}-{number}-{Path(name).name}"
    if not names_paths(name):
        return FileResponse(file, as_attachment=True, filename=filename)
    kind = "text/plain; charset=utf-8" if name.endswith(".log") else "application/json"
    disposition = content_disposition_header(True, filename) or "attachment"
    headers = {"Content-Disposition": disposition}
    return StreamingHttpResponse(PortableChunks(round_, name, file), content_type=kind, headers=headers)


@require_GET
@project_view(*READERS)
def round_archive(request: ProjectRequest, number: int) -> StreamingHttpResponse:
    """Send what a round was trained from as one archive, with which it can be trained again on another machine."""
    project = request.project
    round_ = _round(project, number)
    if not can_repeat(round_):
        raise MissingError(_("The files of this round are not here."))
    trail.record(trail.Verb.EXPORTED, request.user, project=project, target=f"round {number} to repeat")
    members = list_members(round_)
    headers = {
        "Content-Disposition": f'attachment; filename="{project.slug}-{number}.tar"',
        "Content-Length": str(sum(member.size_in_archive for member in members) + END_SIZE),
        "Cache-Control": "no-store",
    }
    return StreamingHttpResponse(archive_chunks(members), content_type="application/x-tar", headers=headers)
