"""Prompts, comparisons, completions and flags: list them, bring them in, and change what a page can change."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework.response import Response

from annotate.api.access import Scope, by_token
from annotate.api.data import bring_in
from annotate.api.operations.declaration import Call, Endpoint, Listing, operation
from annotate.api.pagination import page_of
from annotate.api.shapes.base import RowsRefusedOut
from annotate.api.shapes.rows import (
    ComparisonOut,
    ComparisonRowsIn,
    CountOut,
    FlagOut,
    GoldIn,
    JudgedPromptOut,
    MadeOut,
    PriorityIn,
    PromptOut,
    PromptRankingOut,
    PromptRowsIn,
    WholeCompletionOut,
)
from annotate.forms.search import NamedFilterForm, PromptFilterForm, PromptRankingForm
from annotate.judgments import drafts
from annotate.models import Comparison, Completion, Flag, Prompt
from annotate.people.access import ADMINS, READERS
from annotate.projects import gold, withdrawals
from annotate.reports.prompt_figures import add_figures
from annotate.reports.search import browse_prompts, narrow, narrow_prompts


class Prompts(Endpoint):
    tag = "Prompts"

    @operation(
        "List prompts",
        "The oldest first, with what was said of each.",
        roles=READERS,
        gives=Listing(JudgedPromptOut),
        query=PromptFilterForm,
    )
    def get(self, call: Call) -> Response:
        everything = Prompt.objects.filter(project=call.project)
        matching = narrow_prompts(everything, call.filters)
        return page_of(call.request, matching, JudgedPromptOut, complete=add_figures)

    @operation(
        "Add prompts",
        "Up to 1,000 rows, taken all or not at all. Known ones that differ are changed if `update` is true.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        body=PromptRowsIn,
        gives=MadeOut,
        status=201,
        has_key=True,
        refused=RowsRefusedOut,
    )
    def post(self, call: Call) -> Response:
        return bring_in(call, "prompts", pair=False)


class OnePrompt(Endpoint):
    tag = "Prompts"

    @operation("Get a prompt", roles=READERS, gives=JudgedPromptOut)
    def get(self, call: Call, prompt_id: int) -> Response:
        found = get_object_or_404(Prompt, project=call.project, pk=prompt_id)
        add_figures([found])
        return Response(JudgedPromptOut(found).data)


class PromptRanking(Endpoint):
    tag = "Prompts"

    @operation(
        "Rank prompts",
        "Up to 100 of those in use, or of the `state` asked for, the worst first. `flags` and `cut` apart, they have "
        "at least `least` judgments (3). If the time for it was up, `older` is not null: sent as `before`, it ranks "
        "the older prompts.",
        roles=READERS,
        gives=PromptRankingOut,
        query=PromptRankingForm,
    )
    def get(self, call: Call) -> Response:
        found = browse_prompts(call.project, call.filters, call.filters["before"])
        return Response(PromptRankingOut({"results": found.rows, "older": found.older}).data)


class Withdrawal(Endpoint):
    """The withdrawal of a row: a POST withdraws it, a DELETE restores it. What is so already stays so."""

    shape: Any = None

    def rows(self, call: Call) -> QuerySet[Any]:
        raise NotImplementedError

    def change(self, call: Call, pk: int, act: Callable[..., bool]) -> Response:
        act(get_object_or_404(self.rows(call), pk=pk), call.user, **by_token(call.request))
        return Response(self.shape(get_object_or_404(self.rows(call), pk=pk)).data)


class PromptWithdrawal(Withdrawal):
    tag = "Prompts"
    shape = PromptOut

    def rows(self, call: Call) -> QuerySet[Prompt]:
        return Prompt.objects.filter(project=call.project)

    @operation(
        "Withdraw a prompt",
        "No round writes for it. Its comparisons stay as they are.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=PromptOut,
    )
    def post(self, call: Call, prompt_id: int) -> Response:
        return self.change(call, prompt_id, withdrawals.withdraw)

    @operation("Restore a prompt", scope=Scope.ADMIN, roles=ADMINS, gives=PromptOut)
    def delete(self, call: Call, prompt_id: int) -> Response:
        return self.change(call, prompt_id, withdrawals.put_back)


class OneCompletion(Endpoint):
    tag = "Prompts"

    @operation(
        "Get a completion", "It never changes.", roles=READERS, gives=WholeCompletionOut, has_etag=True
    )
    def get(self, call: Call, completion_id: int) -> Response:
        found = Completion.objects.select_related("policy").filter(prompt__project=call.project)
        return Response(WholeCompletionOut(get_object_or_404(found, pk=completion_id)).data)


# --- Comparisons -------------------------------------------------------------------------------------------------


def comparisons_of(call: Call) -> QuerySet[Comparison]:
    """Return the comparisons of the project, with what their shape shows."""
    ids = [f"{side}__{name}" for side in ("first", "second") for name in ("token_ids", "prompt_token_ids")]
    rows = Comparison.objects.filter(project=call.project).defer(*ids)
    return rows.select_related("prompt", "first__policy", "second__policy")


class Comparisons(Endpoint):
    tag = "Comparisons"

    @operation(
        "List comparisons",
        "The oldest first.",
        roles=READERS,
        gives=Listing(ComparisonOut),
        query=NamedFilterForm,
    )
    def get(self, call: Call) -> Response:
        matching = narrow(Comparison.objects.filter(project=call.project), call.filters)
        rows = (
            comparisons_of(call).filter(pk__in=matching.values("pk"))
            if call.filters
            else comparisons_of(call)
        )
        return page_of(call.request, rows, ComparisonOut)

    @operation(
        "Add comparisons",
        "Up to 1,000 rows, taken all or not at all, as pairs to judge or as gold. Known ones that "
        "differ are changed if `update` is true.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        body=ComparisonRowsIn,
        gives=MadeOut,
        status=201,
        has_key=True,
        refused=RowsRefusedOut,
    )
    def post(self, call: Call) -> Response:
        return bring_in(call, "comparisons", pair=True)


class OneComparison(Endpoint):
    tag = "Comparisons"

    @operation("Get a comparison", roles=READERS, gives=ComparisonOut)
    def get(self, call: Call, comparison_id: int) -> Response:
        return Response(ComparisonOut(get_object_or_404(comparisons_of(call), pk=comparison_id)).data)

    @operation(
        "Change the priority",
        "Comparisons with a higher priority are handed out first.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=PriorityIn,
        gives=ComparisonOut,
    )
    def patch(self, call: Call, comparison_id: int) -> Response:
        found = get_object_or_404(comparisons_of(call), pk=comparison_id)
        Comparison.objects.filter(pk=found.pk).update(priority=call.given["priority"])
        return Response(ComparisonOut(comparisons_of(call).get(pk=found.pk)).data)


class ComparisonWithdrawal(Withdrawal):
    tag = "Comparisons"
    shape = ComparisonOut

    def rows(self, call: Call) -> QuerySet[Comparison]:
        return comparisons_of(call)

    @operation(
        "Withdraw a comparison",
        "It is handed out no more, and no pair is made of it. Its judgments are kept.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=ComparisonOut,
    )
    def post(self, call: Call, comparison_id: int) -> Response:
        return self.change(call, comparison_id, withdrawals.withdraw)

    @operation("Restore a comparison", scope=Scope.ADMIN, roles=ADMINS, gives=ComparisonOut)
    def delete(self, call: Call, comparison_id: int) -> Response:
        return self.change(call, comparison_id, withdrawals.put_back)


class HandingOut(Endpoint):
    tag = "Comparisons"

    @operation(
        "Hand out a comparison again",
        "One that is set aside, as too many annotators skipped it, goes to those who have not had it.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=ComparisonOut,
    )
    def post(self, call: Call, comparison_id: int) -> Response:
        get_object_or_404(comparisons_of(call), pk=comparison_id).hand_out_again()
        return Response(ComparisonOut(comparisons_of(call).get(pk=comparison_id)).data)


class HandingOutOfAll(Endpoint):
    tag = "Comparisons"

    @operation("Hand out all that is set aside", scope=Scope.ADMIN, roles=ADMINS, gives=CountOut)
    def post(self, call: Call) -> Response:
        count = Comparison.objects.filter(project=call.project).set_aside().hand_out_again()
        return Response({"count": count})


class Gold(Endpoint):
    tag = "Comparisons"

    @operation(
        "Make a comparison gold",
        "Or correct its known verdict. Judgments are never changed.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=GoldIn,
        gives=ComparisonOut,
    )
    def put(self, call: Call, comparison_id: int) -> Response:
        return self._set(call, comparison_id, call.given["preferred_id"])

    @operation(
        "Make a comparison standard",
        "One that was gold.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=ComparisonOut,
    )
    def delete(self, call: Call, comparison_id: int) -> Response:
        return self._set(call, comparison_id, None)

    def _set(self, call: Call, comparison_id: int, preferred: int | None) -> Response:
        gold.set_gold(call.project, call.user, comparison_id, preferred, **by_token(call.request))
        return Response(ComparisonOut(comparisons_of(call).get(pk=comparison_id)).data)


# --- Flags -------------------------------------------------------------------------------------------------------


class Flags(Endpoint):
    tag = "Comparisons"

    @operation(
        "List flags",
        "Comparisons that an annotator wants an admin to look at, resolved ones too.",
        roles=ADMINS,
        gives=Listing(FlagOut),
    )
    def get(self, call: Call) -> Response:
        flags = Flag.objects.filter(comparison__project=call.project).select_related("annotator")
        return page_of(call.request, flags, FlagOut)


class FlagResolution(Endpoint):
    tag = "Comparisons"

    @operation("Resolve a flag", scope=Scope.ADMIN, roles=ADMINS, gives=FlagOut)
    def post(self, call: Call, flag_id: int) -> Response:
        flags = Flag.objects.filter(comparison__project=call.project).select_related("annotator")
        get_object_or_404(flags, pk=flag_id)
        drafts.resolve_flag(call.project, flag_id)
        return Response(FlagOut(flags.get(pk=flag_id)).data)
