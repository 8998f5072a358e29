"""The pages on which a prompt is tried: the form, the answers side by side, and what is done with a good one."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from annotate.errors import RefusalError
from annotate.models import Policy, Role
from annotate.people.access import READERS, ProjectRequest, project_view
from annotate.projects.trail import parse_key
from training.models import Answer, Trial
from training.rounds.starts import RoundError
from training.usage import keeping, trials
from training.usage.naming import writers
from training.views.using.forms import ReplyForm, SamplingForm, TryForm

EARLIER = 5  # trials that the form lists
# A draft is rendered for each look at it, which takes up to a second of CPU for a long one.
CHARACTERS_PER_MILLISECOND = 10  # of drafts, between two looks at them
LEAST_PACE, MOST_PACE = 700, 10_000  # milliseconds: the page asks no more often in any case


@never_cache
@project_view(*READERS)
def try_policy(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Show the form with which a policy is prompted. A POST asks for the answers, and shows them."""
    project = request.project
    policy = get_object_or_404(writers(project), pk=policy_id)
    asked = {"prompt": request.GET.get("prompt")} if request.GET.get("prompt", "").isdecimal() else {}
    form = TryForm(request.POST or None, project=project, policy=policy, initial=asked)
    if form.is_valid():
        chosen = form.cleaned_data
        try:
            trial = trials.request(
                project,
                request.user,
                form.content(),
                list(chosen["policies"]),
                form.sampling(),
                tools=form.tools(),
            )
        except RefusalError as refused:
            form.refuse(refused)
        else:
            return redirect("trial", project.slug, trial.pk)
    context = {
        "policy": policy,
        "form": form,
        "prompt": project.prompts.filter(pk=parse_key(str(form["prompt"].value() or "")) or 0).first(),
        "earlier": Trial.objects.filter(project=project, created_by=request.user)[:EARLIER],
        "section": "policies",
    }
    return render(request, "training/using/try.html", context, status=422 if form.errors else 200)


@never_cache
@project_view(*READERS)
def trial_page(request: ProjectRequest, trial_id: UUID) -> HttpResponse:
    """Show a trial's answers, polled while they are written. A POST acts: see `ACTIONS`."""
    found = get_object_or_404(Trial.objects.select_related("project"), project=request.project, pk=trial_id)
    if request.method == "POST":
        act = ACTIONS.get(request.POST.get("action", ""))
        if act is None:
            return redirect("trial", request.project.slug, found.pk)
        try:
            return act(request, found)
        except RefusalError as refused:
            messages.error(request, str(refused))
            return redirect("trial", request.project.slug, found.pk)
    trials.look_after(found)
    context = _context(request, found)
    if not request.htmx:
        return render(request, "training/using/trial.html", context)
    if context["is_live"]:
        return render(request, "training/using/_answers.html", context)
    response = render(request, "training/using/_trial.html", context)
    response["HX-Retarget"], response["HX-Reswap"] = "#trial", "outerHTML"
    return response


def _context(request: ProjectRequest, trial: Trial) -> dict[str, Any]:
    answers = list(trial.answers.select_related("policy"))
    written = [one for one in answers if one.state == Answer.State.DONE]
    return {
        "trial": trial,
        "answers": answers,
        "written": written,
        "pairs": [(a, b) for at, a in enumerate(written) for b in written[at + 1 :]],
        "is_live": any(one.is_live for one in answers),
        "pace": _pace(answers),
        "waits_for": trials.why_waiting(trial),
        "is_chat": not isinstance(trial.content, str),
        "is_admin": request.membership.role == Role.ADMIN,
        "settings": [
            (SamplingForm.base_fields[name].label, value)
            for name, value in trial.sampling.items()
            if name in SamplingForm.base_fields
        ],
        "section": "policies",
    }


def _pace(answers: list[Answer]) -> int:
    """Return the milliseconds between two looks at drafts that are long, or 0."""
    drafts = sum(len(one.text) for one in answers if one.state == Answer.State.RUNNING)
    pace = drafts // CHARACTERS_PER_MILLISECOND
    return min(pace, MOST_PACE) if pace > LEAST_PACE else 0


# --- What can be done with a trial -------------------------------------------------------------------------------


def _cancel(request: ProjectRequest, trial: Trial) -> HttpResponse:
    trial.answers.cancel()
    return redirect("trial", request.project.slug, trial.pk)


def _again(request: ProjectRequest, trial: Trial) -> HttpResponse:
    """Ask the same once more, with the next seed."""
    sampling = {**trial.sampling, "seed": int(trial.sampling.get("seed", 0)) + 1}
    return _ask(request, trial, trial.content, sampling)


def _reply(request: ProjectRequest, trial: Trial) -> HttpResponse:
    """Go on with the chat after the answer of one policy."""
    form = ReplyForm(request.POST)
    if isinstance(trial.content, str) or not form.is_valid():
        raise RefusalError(_("Write what you reply."))
    written = trial.answers.filter(policy=form.cleaned_data["policy"], state=Answer.State.DONE).first()
    if written is None:
        raise RefusalError(_("This policy has not answered yet. Reply to one that has."))
    return _ask(request, trial, form.content(trial.content, written), trial.sampling)


def _ask(request: ProjectRequest, trial: Trial, content: Any, sampling: dict[str, Any]) -> HttpResponse:
    places = dict(trial.answers.values_list("policy", "position"))
    policies: list[Policy] = sorted(
        writers(trial.project).filter(pk__in=places), key=lambda one: places[one.pk]
    )
    try:
        new = trials.request(trial.project, request.user, content, policies, sampling, tools=trial.tools)
    except RoundError as refused:  # a setting that is no longer allowed
        raise RefusalError(str(refused)) from refused
    return redirect("trial", request.project.slug, new.pk)


def _keep_prompt(request: ProjectRequest, trial: Trial) -> HttpResponse:
    _require_admin(request)
    prompt, is_new = keeping.keep_prompt(trial)
    said = _("Added as prompt #%(id)d.") if is_new else _("The project has it already, as prompt #%(id)d.")
    messages.success(request, said % {"id": prompt.pk})
    return redirect("trial", request.project.slug, trial.pk)


def _keep_comparison(request: ProjectRequest, trial: Trial) -> HttpResponse:
    _require_admin(request)
    first, _sign, second = request.POST.get("pair", "").partition("-")
    one, other = parse_key(first), parse_key(second)
    if one is None or other is None:
        raise RefusalError(_("Choose two answers that are written."))
    made = keeping.keep_comparison(trial, one, other)
    url = reverse("comparison", args=[request.project.slug, made.pk])
    messages.success(request, _("Added as comparison #%(id)d, for annotators to judge.") % {"id": made.pk})
    return redirect(url)


def _require_admin(request: ProjectRequest) -> None:
    if request.membership.role != Role.ADMIN:
        raise PermissionDenied(_("Only admins of the project add prompts and comparisons."))


ACTIONS = {
    "cancel": _cancel,
    "again": _again,
    "reply": _reply,
    "prompt": _keep_prompt,
    "comparison": _keep_comparison,
}
