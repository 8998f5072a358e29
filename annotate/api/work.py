"""Judging from outside a browser: take the next comparison, send the verdict. The same functions as the page."""

from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.response import Response

from annotate.api.access import Scope
from annotate.api.operations.declaration import Call, Endpoint, Listing, operation
from annotate.api.pagination import page_of
from annotate.api.shapes.judging import (
    AnyJudgmentOut,
    JudgmentIn,
    JudgmentOut,
    NamedJudgmentOut,
    NextOut,
    NoteIn,
    OneClaimOut,
    OneJudgmentOut,
    OwnJudgmentOut,
    RenewedOut,
    VerdictIn,
    claim_data,
)
from annotate.forms.search import JudgmentFilterForm
from annotate.judgments import drafts, judging, revising, undoing
from annotate.models import Claim, Judgment, Project, Role, User
from annotate.models.judgments import JudgmentQuerySet
from annotate.people.access import JUDGES
from annotate.queueing import empty_queue, queue


class Next(Endpoint):
    tag = "Judging"

    @operation(
        "Take the next comparison",
        "The same until it is judged or given back. Without one, the reason why.",
        scope=Scope.JUDGE,
        roles=JUDGES,
        gives=NextOut,
    )
    def post(self, call: Call) -> Response:
        claim = queue.claim(call.project, call.user)
        if claim is not None:
            return Response({"claim": claim_data(claim, call.project), "reason": None})
        reason = empty_queue.explain(call.project, call.user).reason
        return Response({"claim": None, "reason": {"code": reason.value, "message": reason.label}})


class Renewal(Endpoint):
    tag = "Judging"

    @operation("Keep a claim", "For another lease.", scope=Scope.JUDGE, roles=JUDGES, gives=RenewedOut)
    def post(self, call: Call, token: UUID) -> Response:
        claim = _own_claim(call.project, call.user, token)
        kept = queue.renew(call.project, call.user, token)
        claim.refresh_from_db(fields=["expires_at"])
        return Response({"kept": kept, "expires_at": claim.expires_at})


class Release(Endpoint):
    tag = "Judging"

    @operation("Give a claim back", "Without a verdict.", scope=Scope.JUDGE, roles=JUDGES, status=204)
    def post(self, call: Call, token: UUID) -> Response:
        queue.release(_own_claim(call.project, call.user, token))
        return Response(status=204)


class Flagging(Endpoint):
    tag = "Judging"

    @operation(
        "Flag a comparison",
        "Ask an admin to look at it. Asking again changes the note.",
        scope=Scope.JUDGE,
        roles=JUDGES,
        takes=NoteIn,
        status=204,
    )
    def post(self, call: Call, token: UUID) -> Response:
        _own_claim(call.project, call.user, token)
        drafts.flag(call.project, call.user, token, call.given.get("note", ""))
        return Response(status=204)


class Judgments(Endpoint):
    tag = "Judging"

    @operation(
        "List judgments",
        "Current ones, the oldest first. Admins and researchers get all of them, an annotator their own.",
        gives=Listing(AnyJudgmentOut),
        query=JudgmentFilterForm,
    )
    def get(self, call: Call) -> Response:
        rows = judgments_of(call)
        filters = {name: value for name, value in call.filters.items() if value}
        if call.membership.role == Role.ANNOTATOR:
            for name in ("annotator", "comparison"):
                if name in filters:  # the number of a comparison would tell of what kind it is
                    raise ValidationError({name: [_("Unknown filter.")]})
        if filters.pop("history", "0") == "0":
            rows = rows.current()
        if since := filters.pop("since", None):
            rows = rows.filter(first_at__date__gte=since)
        return page_of(call.request, rows.filter(**filters), shape_of(call))

    @operation(
        "Judge",
        "Record a verdict on a claim. Sent again with the same token, it is recorded once and "
        "answered the same.",
        scope=Scope.JUDGE,
        roles=JUDGES,
        takes=JudgmentIn,
        gives=AnyJudgmentOut,
        status=201,
    )
    def post(self, call: Call) -> Response:
        fields = dict(call.given)
        token, seconds = fields.pop("token"), fields.pop("seconds", None)
        verdict = judging.Verdict(**fields)
        judgment = judging.record(call.project, call.user, token, verdict, seconds=seconds)
        return Response(OwnJudgmentOut(judgment).data, status=201)


class OneJudgment(Endpoint):
    tag = "Judging"

    @operation("Get a judgment", gives=AnyJudgmentOut)
    def get(self, call: Call, judgment_id: int) -> Response:
        return Response(shape_of(call)(get_object_or_404(judgments_of(call), pk=judgment_id)).data)

    @operation(
        "Revise a judgment",
        "One of your own, which stays as history. What the new one leaves out stays as it was.",
        scope=Scope.JUDGE,
        roles=JUDGES,
        takes=VerdictIn,
        gives=AnyJudgmentOut,
    )
    def put(self, call: Call, judgment_id: int) -> Response:
        get_object_or_404(Judgment, project=call.project, annotator=call.user, pk=judgment_id)
        revised = revising.revise(call.project, call.user, judgment_id, judging.Verdict(**call.given))
        return Response(OwnJudgmentOut(revised).data)


class Undo(Endpoint):
    tag = "Judging"

    @operation(
        "Undo your latest judgment",
        "Of the last 24 hours. Its comparison is open again, and comes next. `claim` is null if "
        "there is none.",
        scope=Scope.JUDGE,
        roles=JUDGES,
        gives=OneClaimOut,
    )
    def post(self, call: Call) -> Response:
        claim = undoing.undo(call.project, call.user)
        return Response({"claim": claim and claim_data(claim, call.project)})


class Redo(Endpoint):
    tag = "Judging"

    @operation(
        "Redo what was undone",
        "Notes that the draft has changed since the undo revise it. "
        "`judgment` is null if nothing was undone, or something was judged since.",
        scope=Scope.JUDGE,
        roles=JUDGES,
        gives=OneJudgmentOut,
    )
    def post(self, call: Call) -> Response:
        judgment = undoing.redo(call.project, call.user)
        return Response({"judgment": judgment and OwnJudgmentOut(judgment).data})


def judgments_of(call: Call) -> JudgmentQuerySet:
    """Return the judgments that the user may read."""
    rows = Judgment.objects.filter(project=call.project).select_related("annotator")
    return rows.filter(annotator=call.user) if call.membership.role == Role.ANNOTATOR else rows


def shape_of(call: Call) -> type[JudgmentOut]:
    """Return the shape of judgments for the user's role."""
    shapes = {Role.ANNOTATOR: OwnJudgmentOut, Role.ADMIN: NamedJudgmentOut}
    return shapes.get(Role(call.membership.role), JudgmentOut)


def _own_claim(project: Project, annotator: User, token: UUID) -> Claim:
    claim = queue.find_claim(project, annotator, token)
    if claim is None:
        raise NotFound(_("You hold no claim with this token in this project."))
    return claim
