"""Judging from outside a browser: take the next comparison, send the verdict. The same functions as the page."""

from uuid import UUID

from django.utils.translation import gettext as _
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api import projects
from annotate.api.access import get_project
from annotate.api.serializers import JudgmentIn, OwnJudgmentOut, claim_data
from annotate.judgments import judging
from annotate.models import Claim, Project, User
from annotate.people.access import JUDGES
from annotate.queueing import empty_queue, queue


@api_view(["POST"])
def next_comparison(request: Request, slug: str) -> Response:
    """Return the comparison to judge now, the same until it is judged or given back; without one, the reason why."""
    project, membership = get_project(request, slug, *JUDGES)
    claim = queue.claim(project, membership.user)
    if claim is not None:
        return Response({"claim": claim_data(claim, project), "reason": None})
    reason = empty_queue.explain(project, membership.user).reason
    return Response({"claim": None, "reason": {"code": reason.value, "message": reason.label}})


@api_view(["POST"])
def renew(request: Request, slug: str, token: UUID) -> Response:
    """Keep a claim for another lease. `kept` false: its place is gone, and a verdict will be marked late."""
    project, membership = get_project(request, slug, *JUDGES)
    claim = _own_claim(project, membership.user, token)
    kept = queue.renew(project, membership.user, token)
    claim.refresh_from_db(fields=["expires_at"])
    return Response({"kept": kept, "expires_at": claim.expires_at})


@api_view(["POST"])
def release(request: Request, slug: str, token: UUID) -> Response:
    """Give a claim back without a verdict."""
    project, membership = get_project(request, slug, *JUDGES)
    queue.release(_own_claim(project, membership.user, token))
    return Response(status=204)


@api_view(["GET", "POST"])
def judgments(request: Request, slug: str) -> Response:
    """List judgments, or record a verdict."""
    return projects.judgments(request, slug) if request.method == "GET" else judge(request, slug)


def judge(request: Request, slug: str) -> Response:
    """Record a verdict. Sent again with the same token, it is recorded once and answered the same."""
    project, membership = get_project(request, slug, *JUDGES)
    given = JudgmentIn(data=request.data)
    given.is_valid(raise_exception=True)
    fields = dict(given.validated_data)
    token, seconds = fields.pop("token"), fields.pop("seconds", None)
    judgment = judging.record(project, membership.user, token, judging.Verdict(**fields), seconds=seconds)
    return Response(OwnJudgmentOut(judgment).data, status=201)


def _own_claim(project: Project, annotator: User, token: UUID) -> Claim:
    claim = queue.find_claim(project, annotator, token)
    if claim is None:
        raise NotFound(_("You hold no claim with this token in this project."))
    return claim
