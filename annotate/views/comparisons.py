"""Looking through comparisons and prompts, one comparison with all that is known of it, and flags."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.errors import RefusalError
from annotate.forms.filters import StrictForm
from annotate.forms.prompts import PromptForm
from annotate.forms.search import FilterForm, PromptListForm
from annotate.judgments import drafts, places
from annotate.models import Claim, Comparison, Flag, Prompt, Role, SnapshotPair, SnapshotRating
from annotate.pairs.aggregation import find_label
from annotate.people import reading
from annotate.people.access import ADMINS, JUDGES, READERS, ProjectRequest, project_view
from annotate.projects import gold, trail, withdrawals
from annotate.projects import prompts as prompt_changes
from annotate.reports.prompt_figures import CONCERNS, name_figures
from annotate.reports.search import (
    MOST_COUNTED,
    Page,
    browse,
    browse_prompts,
    count_prompts,
    find_prompt,
    newest_comparisons,
)
from annotate.text.chat_display import show_chat
from annotate.views.comparison_view import Texts, show_metadata


@require_GET
@project_view(*READERS)
def comparisons(request: ProjectRequest) -> HttpResponse:
    """Show the list. `before` is the key where an older page starts."""
    form = FilterForm(request.GET, project=request.project)
    context = _list(request, form, browse) | {
        "in_sight": FilterForm.IN_SIGHT,
        "more": FilterForm.MORE,
        "more_in_use": any(request.GET.get(name) for name in FilterForm.MORE),
    }
    if number := context["form"].cleaned_data.get("prompt"):
        context["of_prompt"] = {"number": number, "prompt": request.project.prompts.filter(pk=number).first()}
    asks_for_imported = request.GET.get("judged_by") == "imported"
    if asks_for_imported and context["page"].rows and request.membership.role == Role.ADMIN:
        context["places"] = places.count_places(request.project)
    return render(request, "annotate/comparisons.html", context, status=422 if form.errors else 200)


def _list(request: ProjectRequest, form: StrictForm, find: Callable[..., Page[Any]]) -> dict[str, Any]:
    """Return the context of a list: the rows that `find` gives for the filters, and the addresses of other pages."""
    before, page = trail.parse_key(request.GET.get("before", "")), Page[Any].empty()
    if form.is_valid():
        try:
            page = find(request.project, form.cleaned_data, before)
        except RefusalError as error:
            form.add_error(None, error.message)
    asked = {name: value for name, value in request.GET.items() if value and name != "before"}
    return {
        "form": form,
        "page": page,
        "filtered": bool(asked),
        "older": urlencode({**asked, "before": page.older}) if page.older else "",
        "before": before,
        "is_first": not before,
        "asked": asked,
        "newest": urlencode(asked),
    }


@never_cache
@require_GET
@project_view(*READERS)
def comparison(request: ProjectRequest, comparison_id: int) -> HttpResponse:
    """Show one comparison, read-only: completions, verdicts with their history, and where it came from and went."""
    found = get_object_or_404(
        Comparison.objects.select_related("prompt", "first__policy", "second__policy", "repeat_of"),
        project=request.project,
        pk=comparison_id,
    )
    judgments = found.judgments.select_related("annotator").order_by("-created_at", "-pk")
    claims = found.claims.filter(state="live", expires_at__gt=timezone.now()).select_related("annotator")
    reading.choose_view(request.membership, request.GET.get("view", ""))
    context = {
        "comparison": found,
        "texts": Texts.of_comparison(found, request.project, reading.view_of(request.membership)),
        "judgments": judgments,
        "has_imported": any(judgment.is_imported for judgment in judgments),
        "claims": claims,
        "label": find_label(found),
        "held": _held_in_snapshots(found),
        "flags": found.flags.open().select_related("annotator"),
        "gold_history": gold.gold_history(found),
        "is_admin": request.membership.role == Role.ADMIN,
    }
    return render(request, "annotate/comparison.html", context)


def _held_in_snapshots(comparison: Comparison) -> list[SnapshotPair | SnapshotRating]:
    """Return its pair in each snapshot, or one rating that stands for both of its completions, the newest first."""
    held: dict[int, SnapshotPair | SnapshotRating] = {
        row.snapshot_id: row
        for rows in (comparison.snapshot_ratings, comparison.snapshot_pairs)
        for row in rows.select_related("snapshot").prefetch_related("snapshot__rounds__project")
    }
    return [held[snapshot] for snapshot in sorted(held, reverse=True)]


@require_POST
@project_view(*ADMINS)
def change_comparison(request: ProjectRequest, comparison_id: int) -> HttpResponse:
    """Change a comparison: `action` is withdraw, restore, again, standard, or gold with `preferred`."""
    found = get_object_or_404(Comparison, project=request.project, pk=comparison_id)
    match request.POST.get("action"):
        case "withdraw":
            withdrawals.withdraw(found, request.user)
            messages.success(
                request,
                _("Withdrawn: it is handed out no more, and no pair is made of it. Verdicts are kept."),
            )
        case "restore":
            withdrawals.put_back(found, request.user)
            messages.success(request, _("Back in the queue."))
        case "again":
            _hand_out_again(request, found)
        case "gold":
            sides = {str(found.first_id): found.first_id, str(found.second_id): found.second_id}
            # 0 is the id of none: `set_gold` says what to choose.
            _change_gold(request, found, sides.get(request.POST.get("preferred", ""), 0))
        case "standard":
            _change_gold(request, found, None)
    return redirect("comparison", request.project.slug, comparison_id)


def _hand_out_again(request: ProjectRequest, found: Comparison) -> None:
    """Hand out a comparison that is set aside, and say who can still get it."""
    if not found.hand_out_again():
        messages.info(request, _("It is not set aside."))
        return
    judges = request.project.memberships.filter(role__in=JUDGES)
    had = Claim.objects.filter(comparison=found, state__in=Claim.HAD).values("annotator")
    count = judges.exclude(user__in=had).count()
    if count:
        text = ngettext(
            "It is handed out again, to the %(count)d member who has not had it.",
            "It is handed out again, to the %(count)d members who have not had it.",
            count,
        )
        messages.success(request, text % {"count": count})
    else:
        messages.warning(
            request,
            _(
                "It is handed out again, but every annotator has had it. Add one, or ask those who skipped it to judge "
                "it in their judgments."
            ),
        )


@require_POST
@project_view(*ADMINS)
def hand_out_all_again(request: ProjectRequest) -> HttpResponse:
    """Hand out everything that is set aside."""
    count = Comparison.objects.filter(project=request.project).set_aside().hand_out_again()
    text = ngettext(
        "%(count)d comparison is handed out again.", "%(count)d comparisons are handed out again.", count
    )
    messages.success(request, text % {"count": count})
    return redirect("comparisons", request.project.slug)


def _change_gold(request: ProjectRequest, found: Comparison, preferred: int | None) -> None:
    said = {
        gold.Verb.GOLD_MADE: _("It is a gold comparison now: verdicts on it measure accuracy."),
        gold.Verb.GOLD_CORRECTED: _(
            "The known verdict is corrected. Accuracy is measured by it from now on."
        ),
        gold.Verb.GOLD_ENDED: _("It is a standard comparison again. Its verdicts count for pairs."),
    }
    try:
        done = gold.set_gold(request.project, request.user, found.pk, preferred)
    except RefusalError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, said[done] if done else _("It was so already."))


# --- Prompts -----------------------------------------------------------------------------------------------------


@require_GET
@project_view(*READERS)
def prompts(request: ProjectRequest) -> HttpResponse:
    """Show the list. `before` is the key where an older page starts."""
    form = PromptListForm(request.GET, project=request.project)
    context = _list(request, form, browse_prompts)
    concern = CONCERNS.get(form.cleaned_data.get("order", ""))
    ranks_shares = concern is not None and concern.judgments is not None
    context |= {
        "section": "comparisons",
        "query": request.GET.urlencode(),
        "counts": count_prompts(request.project),
        "most": MOST_COUNTED,
        "in_sight": PromptListForm.IN_SIGHT,
        "more": PromptListForm.MORE,
        "more_in_use": ranks_shares or any(request.GET.get(name) for name in PromptListForm.MORE),
        "ranks_shares": ranks_shares,
        "with_least": urlencode({**context["asked"], "least": 1}),
        "is_admin": request.membership.role == Role.ADMIN,
    }
    return render(request, "annotate/prompts.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@project_view(*READERS)
def prompt(request: ProjectRequest, prompt_id: int) -> HttpResponse:
    """Show one prompt: its text, what was said of it, and its newest comparisons."""
    found = find_prompt(request.project, prompt_id)
    if found is None:
        raise Http404
    if request.method == "POST":  # a form of `correct_prompt` that is older than its address
        return redirect("correct-prompt", request.project.slug, prompt_id, preserve_request=True)
    comparisons, is_more = newest_comparisons(found)
    context = {
        "prompt": found,
        "chat": show_chat(found.content, tools=found.tools, hosts=request.project.image_hosts),
        "metadata": [show_metadata(key, value) for key, value in found.metadata.items()],
        "figures": name_figures(found.figures),  # type: ignore[attr-defined]
        "comparisons": comparisons,
        "is_more": is_more,
        "is_admin": request.membership.role == Role.ADMIN,
        "section": "comparisons",
    }
    return render(request, "annotate/prompt.html", context)


@require_POST
@project_view(*ADMINS)
def change_prompt(request: ProjectRequest, prompt_id: int) -> HttpResponse:
    """Change a prompt: `action` is withdraw, restore, hold_out or give_back.

    `back` is “prompt” if its own page is next, else `query` is of the list to return to.
    """
    found = get_object_or_404(Prompt, project=request.project, pk=prompt_id)
    match request.POST.get("action"):
        case "withdraw":
            withdrawals.withdraw(found, request.user)
            messages.success(
                request, _("Withdrawn: no round writes for it. Its comparisons stay as they are.")
            )
        case "restore":
            withdrawals.put_back(found, request.user)
            messages.success(request, _("Back in use."))
        case "hold_out" | "give_back" as action:
            _hold_out(request, found, held_out=action == "hold_out")
    if request.POST.get("back") == "prompt":
        return redirect("prompt", request.project.slug, found.pk)
    query = QueryDict(request.POST.get("query", "")).urlencode()
    return redirect(reverse("prompts", args=[request.project.slug]) + (f"?{query}" if query else ""))


def _hold_out(request: ProjectRequest, prompt: Prompt, *, held_out: bool) -> None:
    try:
        prompt_changes.hold_out(request.project, prompt.pk, request.user, held_out=held_out)
    except RefusalError as error:
        messages.error(request, error.message)
    else:
        said = _("Held out: training does not see it.") if held_out else _("Given back to training.")
        messages.success(request, said)


@require_http_methods(["GET", "POST"])
@project_view(*ADMINS)
def correct_prompt(request: ProjectRequest, prompt_id: int) -> HttpResponse:
    """Show a prompt that nothing was written for yet, and store it corrected."""
    found = get_object_or_404(Prompt, project=request.project, pk=prompt_id)
    if request.method == "GET" and found.completions.exists():  # the list that led here is older
        messages.error(request, prompt_changes.HAS_COMPLETIONS)
        return redirect("prompt", request.project.slug, found.pk)
    form = PromptForm(request.POST or None, prompt=found)
    if form.is_valid():
        try:
            new = prompt_changes.correct_prompt(
                request.project, found.pk, form.cleaned_data["content"], found.tools, request.user
            )
        except RefusalError as error:
            form.add_error("content", error.message)
        else:
            messages.success(request, _("Stored as prompt #%(number)d.") % {"number": new.pk})
            return redirect("prompt", request.project.slug, new.pk)
    context = {"prompt": found, "form": form, "section": "comparisons"}
    return render(request, "annotate/correct_prompt.html", context, status=422 if form.errors else 200)


# --- Flags -------------------------------------------------------------------------------------------------------


@require_GET
@project_view(*ADMINS)
def flags(request: ProjectRequest) -> HttpResponse:
    of_project = Flag.objects.filter(comparison__project=request.project).select_related(
        "annotator", "comparison__prompt"
    )
    context = {
        "flags": of_project.open().order_by("created_at", "pk")[:200],
        "section": "comparisons",
        "resolved": of_project.filter(resolved_at__isnull=False).order_by("-resolved_at")[:20],
    }
    return render(request, "annotate/flags.html", context)


@require_POST
@project_view(*ADMINS)
def resolve_flag(request: ProjectRequest, flag_id: int) -> HttpResponse:
    project = request.project
    if drafts.resolve_flag(project, flag_id):
        messages.success(request, _("Flag resolved."))
    return redirect("flags", project.slug)
