"""The desk: one comparison at a time, a verdict, and the next.

Each address answers twice: a plain form is redirected (POST, redirect, GET), and a request of htmx or of the desk's
script gets fragments. The script shows the comparison that was fetched ahead at once and sends the verdict behind
it. It names what it has on screen (`shown`), so that only what it lacks is sent. A page also names whose it is
(`person`): several people may share a browser, and no verdict is stored under another's name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from annotate.errors import MissingError, RefusalError
from annotate.judgments import drafts, gold, judging, undoing
from annotate.judgments.scale import side_of
from annotate.models import Claim, Judgment, TextView
from annotate.people import keyboard, reading
from annotate.people.access import JUDGES, HtmxRequest, ProjectRequest, project_view
from annotate.queueing import empty_queue, qualification, queue
from annotate.queueing.workload import MOST_LEFT, count_workload
from annotate.reports import my_work
from annotate.views import verdict_form
from annotate.views.comparison_view import Stage
from annotate.views.errors import notice

GONE = 410  # the claim's place is gone, or it was settled elsewhere

P = ParamSpec("P")
View = Callable[Concatenate[HtmxRequest, P], HttpResponse]
Claims = tuple[Claim | None, Claim | None]


@dataclass(frozen=True)
class Turn:
    """The outcome of a request of the desk.

    `claims` looks up the comparison for the screen and the one after it, once it is known that they are shown.
    Without `shows`, the screen stays as it is. `word` and `error` are said beside it. `counts` is for answers after
    which the script cannot know the day's count by itself.
    """

    claims: Callable[[], Claims] = lambda: (None, None)
    shows: bool = True
    word: str = ""
    error: str = ""
    counts: bool = False

    @property
    def status(self) -> int:
        return 422 if self.error else 200


def for_its_user(view: View[P]) -> View[P]:
    """Answer a request from another user's page, opened before the present sign-in in the same browser."""

    @wraps(view)
    def wrapper(request: HtmxRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        person = request.POST.get("person") or request.GET.get("person")
        if person and request.user.is_authenticated and person != str(request.user.pk):
            return _other_user(request)
        return view(request, *args, **kwargs)

    return wrapper


def _other_user(request: HtmxRequest) -> HttpResponse:
    if request.method == "GET":  # nothing is lost with a page that only looks for more
        return HttpResponseClientRefresh()
    text = _(
        "This page belongs to another user: %(name)s is signed in now. Nothing was stored under the wrong name."
    ) % {"name": request.user.get_username()}
    if request.htmx:
        text += " " + _(
            "What was judged or written here stays on this device, and is sent once they sign in again."
        )
        return notice(text, 409)
    context = {"heading": _("Another user is signed in"), "text": text, "status": 409}
    return render(request, "annotate/error.html", context, status=409)


@never_cache
@ensure_csrf_cookie
@require_http_methods(["GET", "POST"])
@for_its_user
@project_view(*JUDGES)
def judge(request: ProjectRequest) -> HttpResponse:
    if "look" in request.POST:
        return _look(request)
    if request.method == "POST":
        return _answer(request, _submit(request))
    if not request.htmx:
        reading.choose_view(request.membership, request.GET.get("view", ""))
    return _answer(request, Turn(lambda: (_claim_due(request), None), counts=True))


def _look(request: ProjectRequest) -> HttpResponse:
    """Show the texts in another way, without the script. What is entered so far is kept."""
    if error := _keep_notes(request):
        return _refuse(request, error)
    reading.choose_view(request.membership, request.POST["look"])
    return redirect("judge", request.project.slug)


def _claim_due(request: ProjectRequest) -> Claim | None:
    """Return what is due on the screen. Nothing is handed out before the guidelines are read."""
    if reading.has_unread_guidelines(request.membership):
        return None
    return queue.claim(request.project, request.user)


def _submit(request: ProjectRequest) -> Turn:
    project, user, token = request.project, request.user, request.POST.get("token", "")
    try:
        verdict = verdict_form.read(request.POST, project)
        times: dict[str, Any] = {
            "seconds": verdict_form.seconds(request.POST),
            "age": verdict_form.age(request.POST),
        }
        if not request.htmx or "more" in request.POST:  # a page is asked for next, or more verdicts follow
            judgment = judging.record(project, user, token, verdict, **times)
            return Turn(shows=False, word=_gold_feedback(request, judgment))
        given = judging.judge_and_next(project, user, token, verdict, **times)
    except RefusalError as error:
        return Turn(lambda: (_refused(request), None), error=error.message, counts=True)
    if reading.has_unread_guidelines(request.membership):  # what is on screen is judged first
        shows = "shown" not in request.POST
        return Turn(shows=shows, word=_gold_feedback(request, given.judgment))
    return Turn(lambda: (given.live, given.next), word=_gold_feedback(request, given.judgment))


def _refused(request: ProjectRequest) -> Claim | None:
    """Return the annotator's claim, with what was entered on it."""
    claim = queue.claim(request.project, request.user)
    if claim and str(claim.token) == request.POST.get("token"):
        shown = (claim.left_id, claim.right_id)
        claim.draft = verdict_form.entered(request.POST, shown)
    return claim


def _gold_feedback(request: ProjectRequest, judgment: Judgment) -> str:
    """Say whether the verdict agrees with the known one, where the project tells."""
    if judgment.verdict == Judgment.Verdict.SKIP:
        return ""
    better = gold.find_known_better(request.project, judgment)
    if better is None:
        return ""
    if better == judgment.preferred_id:
        return _("That one has a known verdict, and yours agrees with it.")
    return _("That one has a known verdict: %(letter)s is better. See it again in your judgments.") % {
        "letter": side_of(judgment, better).upper()
    }


@never_cache
@require_POST
@for_its_user
@project_view(*JUDGES)
def ahead(request: ProjectRequest) -> HttpResponse:
    """Return what comes after the comparison on screen, fetched ahead."""
    return _fragment(request, Turn(lambda: (None, _claim_next(request)), shows=False))


def _claim_next(request: ProjectRequest) -> Claim | None:
    if reading.has_unread_guidelines(request.membership):
        return None
    return queue.claim_next(request.project, request.user)


@never_cache
@require_POST
@for_its_user
@project_view(*JUDGES)
def undo(request: ProjectRequest) -> HttpResponse:
    if request.project.archived_at:
        return _step(request, None, _("This project is archived: its judgments stay as they are."))
    if error := _keep_notes(request):
        return _refuse(request, error)
    claim = undoing.undo(request.project, request.user)
    return _step(request, claim, "" if claim else _("There is nothing to undo."))


@never_cache
@require_POST
@for_its_user
@project_view(*JUDGES)
def redo(request: ProjectRequest) -> HttpResponse:
    if error := _keep_notes(request):
        return _refuse(request, error)
    try:
        judgment = undoing.redo(request.project, request.user)
    except RefusalError as error:
        return _refuse(request, error)
    return _step(request, None, "" if judgment else _("There is nothing to redo."))


def _step(request: ProjectRequest, claim: Claim | None, word: str) -> HttpResponse:
    def claims() -> Claims:
        live = claim or _claim_due(request)
        return live, _claim_next(request) if live else None

    return _answer(request, Turn(claims, word=word, counts=True))


@never_cache
@require_GET
@project_view(*JUDGES)
def texts(request: ProjectRequest, token: UUID) -> HttpResponse:
    """Show the texts of a claim that this person was handed in another view, which holds from now on."""
    reading.choose_view(request.membership, request.GET.get("view", ""))
    claim = _own_claim(request, token)
    return _fragment(request, Turn(lambda: (claim, None)))


@never_cache
@require_GET
@project_view(*JUDGES)
def whole_text(request: ProjectRequest, token: UUID, side: str) -> HttpResponse:
    """Return all of a completion, or of the prompt, as plain text. The page shows the beginning of a very long one."""
    stage = Stage.of_claim(_own_claim(request, token), request.project)
    texts = {"a": stage.left.text, "b": stage.right.text, "prompt": stage.prompt_text}
    if side not in texts:
        raise Http404
    return HttpResponse(texts[side], content_type="text/plain; charset=utf-8")


def _own_claim(request: ProjectRequest, token: UUID) -> Claim:
    claim = queue.find_claim(request.project, request.user, token)
    if claim is None:
        raise MissingError(_("This comparison was not handed to you, or was judged since."))
    return claim


@require_POST
@for_its_user
@project_view(*JUDGES)
def draft(request: ProjectRequest) -> HttpResponse:
    """Keep what is being written."""
    try:
        written = verdict_form.read_draft(request.POST)
        kept = drafts.save_draft(request.project, request.user, request.POST.get("token", ""), written)
    except RefusalError as error:
        return notice(error.message, 422)
    return HttpResponse(status=204 if kept else GONE)


@require_POST
@for_its_user
@project_view(*JUDGES)
def renew(request: ProjectRequest) -> HttpResponse:
    """Answer the heartbeat: 204 while the claim is kept."""
    kept = queue.renew(request.project, request.user, request.POST.get("token", ""))
    return HttpResponse(status=204 if kept else GONE)


@require_POST
@for_its_user
@project_view(*JUDGES)
def leave(request: ProjectRequest) -> HttpResponse:
    """Release the claims of a page that was left. A reload is offered them first."""
    queue.leave(request.project, request.user)
    return HttpResponse(status=204)


@require_POST
@for_its_user
@project_view(*JUDGES)
def flag(request: ProjectRequest) -> HttpResponse:
    token, note = request.POST.get("token", ""), request.POST.get("flag_note", "")
    try:
        drafts.flag(request.project, request.user, token, note)
    except RefusalError as error:
        level, tag, text, status = messages.ERROR, "error", error.message, 422
    else:
        level, tag, status = messages.SUCCESS, "success", 200
        text = _("Flagged. An admin will look at it; you can judge it or skip it.")
    if request.htmx:
        return notice(text, status, tag)
    messages.add_message(request, level, text)
    if refusal := _keep_notes(request):
        return _refuse(request, refusal)
    return redirect("judge", request.project.slug)


def _keep_notes(request: ProjectRequest) -> RefusalError | None:
    """Keep what a plain form holds beside its act, as the page that follows is a new one. The script keeps its own.

    Return the error for notes that cannot be kept.
    """
    if request.htmx or "asked" not in request.POST:
        return None
    try:
        written = verdict_form.read_draft(request.POST, was=request.POST.get("was", ""))
        drafts.save_draft(request.project, request.user, request.POST.get("token", ""), written)
    except RefusalError as error:
        return error
    return None


def _refuse(request: ProjectRequest, error: RefusalError) -> HttpResponse:
    """Answer with the error, and with the comparison as it was entered."""
    return _answer(request, Turn(lambda: (_refused(request), None), error=error.message, counts=True))


# --- Answers -----------------------------------------------------------------------------------------------------


def _answer(request: ProjectRequest, turn: Turn) -> HttpResponse:
    """Answer the script with fragments. A plain form leads back to the page, unless it was refused."""
    if request.htmx:
        return _fragment(request, turn)
    if request.method == "GET" or turn.error:
        return _page(request, turn)
    if turn.word:
        messages.info(request, turn.word)
    return redirect("judge", request.project.slug)


def _fragment(request: ProjectRequest, turn: Turn) -> HttpResponse:
    """Answer with the comparison to show, unless the page shows it already, and the one after it."""
    project, user = request.project, request.user
    live, following = turn.claims()
    view = _view(request)
    context: dict[str, Any] = {
        "keys": keyboard.read_keys(user.preferences),
        "word": turn.word,
        "error": turn.error,
        "today": my_work.count_today(project, user) if turn.counts else None,
        "following": Stage.of_claim(following, project, view) if following else None,
    }
    if turn.shows and (live is None or str(live.token) != request.POST.get("shown")):
        context |= {"show": True, **_stage(request, live)}
    return render(request, "annotate/_turn.html", context, status=turn.status)


def _page(request: ProjectRequest, turn: Turn) -> HttpResponse:
    project, user = request.project, request.user
    live, _following = turn.claims()
    keys, left = keyboard.read_keys(user.preferences), count_workload(project, user).left
    context = {
        "section": "judge",
        "view": _view(request),
        "today": my_work.count_today(project, user),
        "left": left if left <= MOST_LEFT else None,  # few enough to count; the script counts on from here
        "can_undo": undoing.can_undo(project, user),
        "can_redo": undoing.can_redo(project, user),
        "standing": _standing(request),
        "keys": keys,
        "sheet": [(act, keys[act.name]) for act in keyboard.ACTS],
        "error": turn.error,
        **_stage(request, live),
    }
    return render(request, "annotate/judge.html", context, status=turn.status)


def _standing(request: ProjectRequest) -> qualification.Standing | None:
    """Return the progress in the qualification, if there is one to pass."""
    if not request.project.qualification_size or request.membership.qualified_at:
        return None
    return qualification.find_standing(request.project, request.user)


def _stage(request: ProjectRequest, claim: Claim | None) -> dict[str, Any]:
    if claim is None and reading.has_unread_guidelines(request.membership):
        return {"stage": None, "unread": reading.version_of(request.project.guidelines)}
    if claim is None:
        return {"stage": None, "why": empty_queue.explain(request.project, request.user)}
    return {"stage": Stage.of_claim(claim, request.project, _view(request))}


def _view(request: ProjectRequest) -> str:
    """Return the view that the page is in. A page that does not say so gets the one that its member chose last."""
    view = request.POST.get("view") or request.GET.get("view", "")
    return view if view in TextView.values else reading.view_of(request.membership)
