"""The desk: one comparison at a time, a verdict, and the next.

Each address answers twice: a plain form is redirected (POST, redirect, GET), and a request of htmx or of the
desk's script gets fragments. The script shows the comparison that was fetched ahead at once and sends the verdict
behind it; it names what it has on screen (`shown`), so that only what it lacks is sent. A page also names whose it is
(`person`): several people may share a browser, and nobody's verdict is stored under another's name.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from annotate.errors import RefusalError
from annotate.judgments import drafts, judging
from annotate.models import Claim, Comparison, Judgment, Membership, Project, Role
from annotate.people import keyboard
from annotate.people.access import JUDGES, ProjectRequest, project_view
from annotate.queueing import empty_queue, qualification, queue
from annotate.reports import my_work
from annotate.reports.my_work import judged_today
from annotate.views import verdict_form
from annotate.views.comparison_view import Stage

DESK = (Role.ANNOTATOR, Role.ADMIN)
GONE = 410  # the claim's place is gone, or it was settled elsewhere

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]


def whoever_opened_it(view: View[P]) -> View[P]:
    """Answers what comes from a page that somebody else opened, before the present sign-in in the same browser."""

    @wraps(view)
    def wrapper(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        person = request.POST.get("person") or request.GET.get("person")
        if person and request.user.is_authenticated and person != str(request.user.pk):
            return _somebody_else(request)
        return view(request, *args, **kwargs)

    return wrapper


def _somebody_else(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":  # nothing is lost with a page that only looks for more
        return HttpResponseClientRefresh()
    text = _(
        "This page is somebody else’s: %(name)s is signed in now. Nothing was stored under the wrong name."
    ) % {"name": request.user.get_username()}
    if _is_fragment(request):
        text += " " + _(
            "What was judged or written here stays on this device, and is sent once they sign in again."
        )
        return _notice(request, text, status=409)
    context = {"heading": _("Somebody else is signed in"), "text": text, "status": 409}
    return render(request, "annotate/error.html", context, status=409)


@never_cache
@ensure_csrf_cookie
@require_http_methods(["GET", "POST"])
@whoever_opened_it
@project_view(*JUDGES)
def judge(request: ProjectRequest) -> HttpResponse:
    project = request.project
    if request.method == "POST":
        return _submit(request, project, request.membership)
    claim = queue.claim(project, request.user)
    if _is_fragment(request):
        return _turn(
            request, project, request.membership, claim, None, today=judged_today(project, request.user)
        )
    return render(request, "annotate/judge.html", _page(request, project, request.membership, claim))


def _submit(request: HttpRequest, project: Project, membership: Membership) -> HttpResponse:
    user, token, fragment = membership.user, request.POST.get("token", ""), _is_fragment(request)
    try:
        verdict = verdict_form.read(request.POST, project)
        seconds = verdict_form.seconds(request.POST)
        if fragment and "more" not in request.POST:
            turn = judging.judge_and_next(project, user, token, verdict, seconds=seconds)
            judgment, live, following = turn.judgment, turn.live, turn.next
        else:  # more verdicts are on their way, or a page will be asked for next
            judgment = judging.record(project, user, token, verdict, seconds=seconds)
            live = following = None
    except RefusalError as error:
        return _refuse(request, project, membership, error)
    feedback = _gold_feedback(project, judgment)
    if fragment:
        if "more" in request.POST:
            return render(request, "annotate/_turn.html", {"word": feedback})
        return _turn(request, project, membership, live, following, word=feedback)
    if feedback:
        messages.info(request, feedback)
    return redirect("judge", project.slug)


def _refuse(
    request: HttpRequest, project: Project, membership: Membership, error: RefusalError
) -> HttpResponse:
    """Nothing was stored: say why, beside what was entered."""
    claim = queue.claim(project, membership.user)
    if claim and str(claim.token) == request.POST.get("token"):
        claim.draft = verdict_form.entered(request.POST, project, (claim.left_id, claim.right_id))
    if _is_fragment(request):
        today = judged_today(project, membership.user)
        return _turn(request, project, membership, claim, None, error=error.message, today=today, status=422)
    context = _page(request, project, membership, claim) | {"error": error.message}
    return render(request, "annotate/judge.html", context, status=422)


@never_cache
@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def ahead(request: ProjectRequest) -> HttpResponse:
    """Return what comes after the comparison on screen, fetched ahead."""
    project = request.project
    return _turn(
        request, project, request.membership, None, queue.claim_next(project, request.user), only_ahead=True
    )


@never_cache
@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def undo(request: ProjectRequest) -> HttpResponse:
    project = request.project
    claim = judging.undo(project, request.user)
    if claim is None:
        return _again(request, project, request.membership, word=_("There is nothing to undo."))
    return _again(request, project, request.membership, claim=claim)


@never_cache
@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def redo(request: ProjectRequest) -> HttpResponse:
    project = request.project
    judgment = judging.redo(project, request.user)
    return _again(
        request, project, request.membership, word="" if judgment else _("There is nothing to redo.")
    )


def _again(
    request: HttpRequest,
    project: Project,
    membership: Membership,
    *,
    claim: Claim | None = None,
    word: str = "",
) -> HttpResponse:
    if not _is_fragment(request):
        if word:
            messages.info(request, word)
        return redirect("judge", project.slug)
    claim = claim or queue.claim(project, membership.user)
    following = queue.claim_next(project, membership.user) if claim else None
    today = judged_today(project, membership.user)
    return _turn(request, project, membership, claim, following, word=word, today=today)


@never_cache
@require_GET
@project_view(*JUDGES)
def texts(request: ProjectRequest, token: UUID) -> HttpResponse:
    """One comparison, its texts shown as `view` says: of a claim that this person was handed."""
    project = request.project
    return _turn(request, project, request.membership, _own_claim(project, request.membership, token), None)


@never_cache
@require_GET
@project_view(*JUDGES)
def whole_text(request: ProjectRequest, token: UUID, side: str) -> HttpResponse:
    """All of a completion, or of the prompt, as plain text: the page shows the beginning of a very long one."""
    project = request.project
    stage = Stage.of_claim(_own_claim(project, request.membership, token), project)
    texts = {"a": stage.left.text, "b": stage.right.text, "prompt": stage.prompt_text}
    if side not in texts:
        raise Http404
    return HttpResponse(texts[side], content_type="text/plain; charset=utf-8")


@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def draft(request: ProjectRequest) -> HttpResponse:
    """Keep what is being written."""
    project = request.project
    try:
        written = verdict_form.read_draft(request.POST, project)
        kept = drafts.save_draft(project, request.user, request.POST.get("token", ""), written)
    except RefusalError as error:
        return _notice(request, error.message, status=422)
    return HttpResponse(status=204 if kept else GONE)


@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def renew(request: ProjectRequest) -> HttpResponse:
    """The heartbeat: 204 while the claim is kept."""
    project = request.project
    kept = queue.renew(project, request.user, request.POST.get("token", ""))
    return HttpResponse(status=204 if kept else GONE)


@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def leave(request: ProjectRequest) -> HttpResponse:
    """The page was left: others may have its comparisons. A reload is offered them first."""
    project = request.project
    queue.leave(project, request.user)
    return HttpResponse(status=204)


@require_POST
@whoever_opened_it
@project_view(*JUDGES)
def flag(request: ProjectRequest) -> HttpResponse:
    project = request.project
    token, note = request.POST.get("token", ""), request.POST.get("flag_note", "")
    try:
        drafts.flag(project, request.user, token, note)
    except RefusalError as error:
        level, text, status = "error", error.message, 422
    else:
        level, status = "success", 200
        text = _("Flagged. An admin will look at it; you can judge it or skip it.")
    if _is_fragment(request):
        return _notice(request, text, level, status)
    messages.add_message(request, messages.SUCCESS if level == "success" else messages.ERROR, text)
    return redirect("judge", project.slug)


def _is_fragment(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def _own_claim(project: Project, membership: Membership, token: UUID) -> Claim:
    claim = (
        Claim.objects.select_related("comparison__prompt", "left", "right")
        .filter(project=project, annotator=membership.user, token=token)
        .first()
    )
    if claim is None:
        raise Http404(_("This comparison was not handed to you, or was judged since."))
    return claim


def _page(
    request: HttpRequest, project: Project, membership: Membership, claim: Claim | None
) -> dict[str, Any]:
    chosen = keyboard.keys_of(membership.user.preferences)
    return {
        "section": "judge",
        "today": judged_today(project, membership.user),
        "left": _left(project, membership),
        "can_undo": judging.can_undo(project, membership.user),
        "can_redo": judging.can_redo(project, membership.user),
        "standing": _standing(project, membership),
        "keys": chosen,
        "sheet": [(act, chosen[act.name]) for act in keyboard.ACTS],
        **_stage(request, project, membership, claim),
    }


def _left(project: Project, membership: Membership) -> int | None:
    """Return how much is left for this annotator, if it is few enough to count. The script counts on from here."""
    left = my_work.left(project, membership.user)
    return left if left <= my_work.MOST_LEFT else None


def _standing(project: Project, membership: Membership) -> qualification.Standing | None:
    """Return the progress in the qualification, if there is one to pass."""
    if not project.qualification_size or membership.qualified_at:
        return None
    return qualification.standing(project, membership.user)


def _stage(
    request: HttpRequest, project: Project, membership: Membership, claim: Claim | None
) -> dict[str, Any]:
    if claim is None:
        return {"stage": None, "why": empty_queue.why(project, membership.user)}
    return {"stage": Stage.of_claim(claim, project, _view(request))}


def _view(request: HttpRequest) -> str:
    return request.POST.get("view", "") or request.GET.get("view", "")


def _turn(
    request: HttpRequest,
    project: Project,
    membership: Membership,
    live: Claim | None,
    following: Claim | None,
    *,
    only_ahead: bool = False,
    word: str = "",
    error: str = "",
    today: int | None = None,
    status: int = 200,
) -> HttpResponse:
    """Fragments: the comparison to show, unless the page shows it already, and the one after it.

    `today` is the day's true count, where the script cannot know it by counting.
    """
    context: dict[str, Any] = {
        "keys": keyboard.keys_of(membership.user.preferences),
        "word": word,
        "error": error,
        "today": today,
        "following": Stage.of_claim(following, project, _next_view(request)) if following else None,
    }
    if not only_ahead and (live is None or str(live.token) != request.POST.get("shown")):
        context |= {"show": True, **_stage(request, project, membership, live)}
    return render(request, "annotate/_turn.html", context, status=status)


def _next_view(request: HttpRequest) -> str:
    """Raw text is a habit and stays; differences are asked for once."""
    return "raw" if _view(request) == "raw" else ""


def _gold_feedback(project: Project, judgment: Judgment) -> str:
    """What the expected verdict was, where the project tells."""
    if project.gold_feedback != Project.GoldFeedback.SHOWN or judgment.verdict == Judgment.Verdict.SKIP:
        return ""
    gold = Comparison.objects.filter(pk=judgment.comparison_id, kind=Comparison.Kind.GOLD)
    expected = gold.values_list("gold_preferred", flat=True).first()
    if expected is None:
        return ""
    if expected == judgment.preferred_id:
        return _("That one has a known verdict, and yours agrees with it.")
    letter = "A" if expected == judgment.left_id else "B"
    return _("That one has a known verdict: %(letter)s is better. See it again in your judgments.") % {
        "letter": letter
    }


def _notice(request: HttpRequest, text: str, level: str = "error", status: int = 200) -> HttpResponse:
    response = render(request, "annotate/_notice.html", {"level": level, "text": text}, status=status)
    response["HX-Retarget"], response["HX-Reswap"] = "#notices", "beforeend"
    return response
