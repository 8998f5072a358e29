"""The user, their projects, and the projects' rows in pages; and the known verdict of one."""

from typing import Any

from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from annotate.api.access import get_project, get_user
from annotate.api.pagination import ByKey
from annotate.api.parsing import refuse_unknown
from annotate.api.serializers import (
    ComparisonOut,
    GoldIn,
    JudgmentOut,
    NamedJudgmentOut,
    OwnJudgmentOut,
    PromptOut,
    project_data,
)
from annotate.models import ApiToken, Comparison, Judgment, Membership, Prompt, Role
from annotate.people.access import ADMINS, READERS
from annotate.projects import gold


@api_view(["GET"])
def projects(request: Request) -> Response:
    """Return the user's projects, archived ones too."""
    memberships = Membership.objects.filter(user=get_user(request)).select_related("project")
    return Response(
        {
            "user": request.user.get_username(),
            "projects": [
                {
                    "slug": membership.project.slug,
                    "name": membership.project.name,
                    "role": membership.role,
                    "archived": membership.project.archived_at is not None,
                }
                for membership in memberships.order_by("project__name")
            ],
        }
    )


@api_view(["GET"])
def project(request: Request, slug: str) -> Response:
    found, membership = get_project(request, slug)
    return Response(project_data(found, membership))


def prompts(request: Request, slug: str) -> Response:
    found, _membership = get_project(request, slug, *READERS)
    return _page(request, Prompt.objects.filter(project=found), PromptOut)


def comparisons(request: Request, slug: str) -> Response:
    found, _membership = get_project(request, slug, *READERS)
    rows = Comparison.objects.filter(project=found).select_related(
        "prompt", "first__policy", "second__policy"
    )
    ids = [f"{side}__{name}" for side in ("first", "second") for name in ("token_ids", "prompt_token_ids")]
    return _page(request, rows.defer(*ids), ComparisonOut)


@api_view(["PUT", "DELETE"])
def gold_verdict(request: Request, slug: str, comparison_id: int) -> Response:
    """Make a comparison gold or correct it ({"preferred_id": completion}), or make it standard again."""
    found, membership = get_project(request, slug, *ADMINS)
    preferred = None
    if request.method == "PUT":
        given = GoldIn(data=request.data)
        given.is_valid(raise_exception=True)
        preferred = given.validated_data["preferred_id"]
    token = {"token": request.auth.name} if isinstance(request.auth, ApiToken) else {}
    gold.set_gold(found, membership.user, comparison_id, preferred, **token)
    rows = Comparison.objects.select_related("prompt", "first__policy", "second__policy")
    return Response(ComparisonOut(rows.get(pk=comparison_id)).data)


def judgments(request: Request, slug: str) -> Response:
    """All of them for admins and researchers; an annotator's own for an annotator. `?history=1` adds replaced ones."""
    found, membership = get_project(request, slug)
    rows = Judgment.objects.filter(project=found).select_related("annotator")
    blind = membership.role == Role.ANNOTATOR
    if blind:
        rows = rows.filter(annotator=membership.user)
    asked = request.query_params.get("history", "0")
    if asked not in ("0", "1"):
        raise ValidationError({"history": [_("Must be 0 or 1.")]})
    if asked == "0":
        rows = rows.current()
    named = NamedJudgmentOut if membership.role == Role.ADMIN else JudgmentOut
    return _page(request, rows, OwnJudgmentOut if blind else named, "history")


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
def unknown(request: Request, path: str) -> Response:
    """Every other address below the API's: an error in the API's own shape."""
    raise NotFound(
        _("The API has no address %(path)s; docs/api.md lists what there is.") % {"path": path[:200]}
    )


def _page(
    request: Request, rows: QuerySet[Any], serializer: type[ModelSerializer[Any]], *filters: str
) -> Response:
    refuse_unknown(request.query_params, {"cursor", "page_size", *filters})
    paginator = ByKey()
    page: list[Model] = paginator.paginate_queryset(rows, request) or []
    return paginator.get_paginated_response(serializer(page, many=True).data)
