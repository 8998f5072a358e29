"""The pages of rounds and policies. Admins act; researchers look; annotators stay blind to which policy wrote what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from annotate.models import Comparison, Judgment, Policy, Project, Role, User
from annotate.pairs.snapshots import EXCLUSIONS, PairSettings, aggregate
from annotate.people.access import ADMINS, READERS, ProjectRequest, project_view
from annotate.projects import trail
from training.models import Round, Sweep, Worker
from training.rounds import lineage, standings, state_machine
from training.rounds.plan import Plan, RoundError, check_policy
from training.views.charts import round_charts
from training.views.forms import RoundForm, WriteForm

DOWNLOADS = {
    "config.json": gettext_lazy("Every setting"),
    "pairs.jsonl": gettext_lazy("The pairs it was trained on"),
    "heldout.jsonl": gettext_lazy("The held-out pairs"),
    "metrics.jsonl": gettext_lazy("Metrics, one line a step"),
    "done.json": gettext_lazy("Summary, hashes and library versions"),
    "train.log": gettext_lazy("What training said"),
    "prompts.jsonl": gettext_lazy("The prompts it wrote for"),
    "samples.jsonl": gettext_lazy("What it wrote"),
    "adapter/adapter_config.json": gettext_lazy("The adapter's shape"),
    "adapter/adapter_model.safetensors": gettext_lazy("The adapter's weights"),
}
GALLERY_PAGE, GALLERY_GLIMPSE, JUDGMENTS_PAGE = 10, 3, 50


@project_view(*READERS, post=ADMINS)
def round_list(request: ProjectRequest) -> HttpResponse:
    """The rounds of a project; a POST starts one, with the action `write` one that does not train."""
    project = request.project
    form: RoundForm | WriteForm | None = None
    if request.method == "POST":
        form = (WriteForm if request.POST.get("action") == "write" else RoundForm)(project, request.POST)
        if form.is_valid():
            try:
                return redirect(_start(project, request.user, form))
            except RoundError as error:
                form.refuse(error)
    listed = project.rounds.select_related("start_policy", "result_policy", "created_by")
    context: dict[str, Any] = {
        "rounds": [(round_, _list_gate(round_)) for round_ in listed],
        "open_round": next((r for r in listed if r.is_live or r.state == Round.State.READY), None),
        "workers": Worker.for_training(),
        "sweep": Sweep.last(),
        "sweep_overdue": Sweep.is_overdue(),
    }
    if request.membership.role == Role.ADMIN:
        context["form"] = (
            form if isinstance(form, RoundForm) else RoundForm(project, like=_like(request, project))
        )
        context["write_form"] = form if isinstance(form, WriteForm) else WriteForm(project)
        context["nothing_yet"] = not project.comparisons.exists()
    return render(request, "training/rounds.html", context, status=422 if form else 200)


def _start(project: Project, by: User, form: RoundForm | WriteForm) -> Round:
    if isinstance(form, WriteForm):
        return state_machine.write(project, by, form.cleaned_data["count"])
    return state_machine.start(project, by, form.chosen())


def _like(request: HttpRequest, project: Project) -> Round | None:
    """The round whose settings are asked for again, by its number."""
    number = request.GET.get("like", "")
    return project.rounds.filter(number=number).first() if number.isdecimal() and len(number) < 10 else None


def _list_gate(round_: Round) -> standings.Gate | None:
    return standings.gate(round_) if round_.result_policy_id else None


@require_GET
@project_view(*READERS)
def ready_pairs(request: ProjectRequest) -> HttpResponse:
    """How many pairs a round would have now, and what became of the other judgments: a fragment of the list.

    With `start` in the query it may disable the button that starts one, and says why.
    """
    project = request.project
    context: dict[str, Any] = {"min_pairs": state_machine.MIN_PAIRS, "starts": "start" in request.GET}
    try:
        plan = Plan.for_project(project, check_policy(project.current_policy), {})
        context["account"] = _account(aggregate(project, plan.pairs).counts)
        context["cannot_start"] = _too_few(project, plan.pairs, context["account"].train)
        context |= _since_last_round(project)
    except RoundError as error:
        context["refused"] = str(error)
        context["cannot_start"] = _("See above what is missing.")
    return render(request, "training/_ready.html", context)


def _too_few(project: Project, chosen: PairSettings, train: int) -> str:
    """Why there are too few pairs for a round, whatever its form chooses; empty if there may be enough."""
    if train >= state_machine.MIN_PAIRS:
        return ""
    widest = replace(chosen, ties="half", min_judgments=1, include_too_fast=True)
    if aggregate(project, widest).counts["train"] >= state_machine.MIN_PAIRS:
        return ""
    return _("A round needs %(min)d pairs to train on.") % {"min": state_machine.MIN_PAIRS}


def _since_last_round(project: Project) -> dict[str, Any]:
    """The last round that trained, and how many judgments it did not know."""
    last = project.rounds.filter(result_policy__isnull=False).first()
    if last is None:
        return {}
    since = Judgment.objects.current().opinions().filter(project=project, created_at__gt=last.created_at)
    return {"last": last, "new_judgments": since.count()}


@project_view(*READERS, post=ADMINS)
def round_page(request: ProjectRequest, number: int) -> HttpResponse:
    """One round: live while it runs, its outcome afterwards. A POST's `action` says what to do with it."""
    round_ = _round(request.project, number)
    if request.method == "POST":
        return _act(request, round_)
    return render(request, "training/round.html", _page(round_))


def _page(round_: Round) -> dict[str, Any]:
    return {
        "round": round_,
        "plan": round_.settings,
        "settings_list": list(_flat(round_.settings)),
        "events": round_.events.select_related("by"),
        "files": _files(round_),
        **_live(round_),
        **(_outcome(round_) if round_.result_policy_id or not round_.trains else {}),
    }


def _act(request: ProjectRequest, round_: Round) -> HttpResponse:
    by, number, action = request.user, round_.number, request.POST.get("action")
    try:
        if action == "resume":
            state_machine.resume(round_, by)
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
        state_machine.promote,
        gettext_lazy("Round %(number)s was promoted: the next round starts from its policy."),
        gettext_lazy("Round %(number)s was decided already, or is not ready."),
    ),
    "reject": (
        state_machine.reject,
        gettext_lazy(
            "Round %(number)s was rejected: the policy before it stays, and its open comparisons are withdrawn."
        ),
        gettext_lazy("Round %(number)s was decided already, or is not ready."),
    ),
}


@require_GET
@project_view(*READERS)
def round_live(request: ProjectRequest, number: int) -> HttpResponse:
    """The live part of a round's page, polled. When the state has changed, all that the page's <main> holds.

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
    found = project.rounds.select_related("start_policy", "result_policy", "snapshot", "created_by")
    round_ = get_object_or_404(found, number=number)
    round_.project = project
    return round_


def _live(round_: Round) -> dict[str, Any]:
    """What changes while a round runs."""
    return {
        "charts": round_charts(round_),
        "worker_missing": round_.is_live and not Worker.for_training(),
        "share_done": round_.step / round_.total_steps if round_.total_steps else None,
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted name, value)."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, "" if name == "config" else f"{prefix}{name}.")
        else:
            yield prefix + name, value


@dataclass(frozen=True)
class Account:
    """What became of the judgments: how many made how many pairs, and comparisons left out by reason."""

    judgments: int
    comparisons: int
    train: int
    held_out: int
    left_out: list[tuple[str, int]]


def _account(counts: Mapping[str, Any]) -> Account:
    left_out = [(str(EXCLUSIONS.get(why, why)), count) for why, count in counts["excluded"].items()]
    return Account(counts["judgments"], counts["comparisons"], counts["train"], counts["held_out"], left_out)


def _outcome(round_: Round) -> dict[str, Any]:
    """What a finished round achieved."""
    return {
        "account": _account(round_.snapshot.counts) if round_.snapshot else None,
        "gate": standings.gate(round_),
        "held_out": standings.held_out_accuracy(round_),
        "lengths": standings.sampled_lengths(round_),
        "health": round_.summary.get("train", {}).get("health", []),
        "told": _told(round_),
        "encoding": _encoding(round_.summary.get("train", {}).get("left_out", {})),
        "gallery": _gallery_page(round_, 1, GALLERY_GLIMPSE),
        "fresh_judged": round_.fresh.filter(judged__gt=0).count(),
        "fresh_total": round_.fresh.count(),
        "fresh_open": round_.fresh.open().count(),
        "is_last": not round_.project.rounds.filter(number__gt=round_.number).exists(),
        "to_withdraw": sum(
            comparisons.filter(judged__lt=F("needed"), withdrawn_at=None).count()
            for comparisons in (round_.fresh, round_.gate)
        ),
    }


def _told(round_: Round) -> list[str]:
    """Return what the engine had to say while it trained and sampled, each sentence once."""
    verbs = (round_.summary.get(verb, {}) for verb in ("train", "sample", "sample_previous"))
    return list(dict.fromkeys(event for verb in verbs for event in verb.get("events", [])))


_ENCODING = {  # what `training.engine.data.tokens` reports of pairs that did not fit, by reason
    "empty_prompt": gettext_lazy("had an empty prompt"),
    "empty_completion": gettext_lazy("had an empty completion"),
    "identical_completions": gettext_lazy("had two completions of the same tokens"),
    "identical_to_tokenizer": gettext_lazy("differed only in blanks that the tokenizer drops"),
    "unmatched_turn": gettext_lazy("are chats whose end the model's chat template begins in another way"),
    "refused_by_template": gettext_lazy("are chats that the model's chat template refused"),
    "identical_after_truncation": gettext_lazy("differed only beyond max_length"),
    "prompt": gettext_lazy("lost the beginning of their prompt"),
    "completion": gettext_lazy("lost the end of a completion"),
}


def _encoding(left_out: Mapping[str, Any]) -> dict[str, list[tuple[int, str]]]:
    """Pairs that training dropped, and pairs that it cut to max_length: how many, and what happened to them."""
    return {
        name: [(count, str(_ENCODING.get(why, why))) for why, count in left_out.get(name, {}).items()]
        for name in ("dropped", "truncated")
    }


@require_GET
@project_view(*READERS)
def gallery(request: ProjectRequest, number: int) -> HttpResponse:
    """A page of the same prompts, continued by the policy before and by the new one."""
    round_ = _round(request.project, number)
    context = {"round": round_, "gallery": _gallery_page(round_, request.GET.get("page"))}
    return render(request, "training/gallery.html", context)


def _gallery_page(round_: Round, page: Any, size: int = GALLERY_PAGE) -> Any:
    """Rows of (prompt, completion before, completion after)."""
    comparisons = round_.gate.select_related("prompt", "first", "second").order_by("pk")
    found: Any = Paginator(comparisons, size).get_page(page)
    found.object_list = [
        (comparison, *_old_and_new(comparison, round_.result_policy_id)) for comparison in found.object_list
    ]
    return found


def _old_and_new(comparison: Comparison, new: int | None) -> tuple[Any, Any]:
    if comparison.first.policy_id == new:
        return comparison.second, comparison.first
    return comparison.first, comparison.second


def _files(round_: Round) -> list[tuple[str, str, int]]:
    """The files of the run directory that can be downloaded: name, what it is, bytes."""
    return [
        (name, str(what), (round_.run_dir / name).stat().st_size)
        for name, what in DOWNLOADS.items()
        if (round_.run_dir / name).is_file()
    ]


@require_GET
@project_view(*READERS)
def round_file(request: ProjectRequest, number: int, name: str) -> FileResponse:
    """One file of the run directory, if it is one of those that are offered."""
    project = request.project
    path = _round(project, number).run_dir / name
    if name not in DOWNLOADS or not path.is_file():
        raise Http404
    if request.method == "GET":
        trail.record(trail.Verb.EXPORTED, request.user, project=project, target=f"{name} of round {number}")
    return FileResponse(
        path.open("rb"), as_attachment=True, filename=f"{project.slug}-{number}-{Path(name).name}"
    )


# --- Policies ----------------------------------------------------------------------------------------------------


@require_GET
@project_view(*READERS)
def policy_list(request: ProjectRequest) -> HttpResponse:
    """Every policy, with how it stands in people's judgments."""
    project = request.project
    ranked = {policy.pk: strength for policy, strength in standings.ranking(project)}
    policies = project.policies.select_related("parent", "round").order_by("pk")
    rows = [(policy, ranked.get(policy.pk)) for policy in policies]
    rows.sort(key=lambda row: -row[1].log_strength if row[1] else float("inf"))
    context = {
        "rows": rows,
        "anchor": min(policies, key=_pk, default=None),
    }
    return render(request, "training/policies.html", context)


def _pk(policy: Policy) -> int:
    return policy.pk


@project_view(*READERS, post=ADMINS)
def policy_page(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """One policy: where it came from, down to the judgments, and what came of it. A POST rolls back to it."""
    project = request.project
    policy = get_object_or_404(project.policies.select_related("parent", "round"), pk=policy_id)
    if request.method == "POST":
        try:
            state_machine.roll_back(project, policy, request.user)
            messages.success(request, _("%(policy)s is the current policy now.") % {"policy": policy.name})
        except RoundError as error:
            messages.error(request, str(error))
        return redirect("policy", project.slug, policy.pk)
    history = lineage.history(policy)
    may_roll_back = policy != project.current_policy and policy in state_machine.once_current(project)
    context = {
        "policy": policy,
        "history": history,
        "round": history[0].round,
        "descendants": lineage.descendants(policy),
        "judgments": _judgments_page(history[0].round, request.GET.get("page")),
        "is_current": policy.pk == project.current_policy_id,
        "may_roll_back": may_roll_back and request.membership.role == Role.ADMIN,
        "written": policy.completions.count(),
    }
    return render(request, "training/policy.html", context)


def _judgments_page(round_: Round | None, page: Any) -> Any:
    """The judgments that the round's snapshot took, with the pairs that they went into."""
    if round_ is None or round_.snapshot is None:
        return None
    taken = (
        Judgment.objects.filter(snapshot_pairs__snapshot=round_.snapshot)
        .select_related("annotator", "comparison__prompt")
        .order_by("pk")
    )
    return Paginator(taken, JUDGMENTS_PAGE).get_page(page)


@require_GET
@project_view(*READERS)
def shaped_policies(request: ProjectRequest, comparison_id: int) -> HttpResponse:
    """From a comparison's judgments on to every policy that they shaped."""
    comparison = get_object_or_404(request.project.comparisons.select_related("prompt"), pk=comparison_id)
    context = {
        "comparison": comparison,
        "shaped": lineage.shaped_by(comparison),
    }
    return render(request, "training/shaped.html", context)
