"""Bringing rows in by the API, in batches that are taken whole or not at all, and taking pairs and snapshots out."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api import projects
from annotate.api.access import get_project
from annotate.api.errors import RowsRefusedError
from annotate.api.parsing import refuse_unknown
from annotate.api.serializers import SnapshotIn, SnapshotOut
from annotate.errors import RefusalError
from annotate.forms.exports import ExportForm, export_download
from annotate.imports import records, writing
from annotate.imports.reader import RowError
from annotate.models import ApiToken, Project, Snapshot
from annotate.pairs.downloads import snapshot_download
from annotate.pairs.snapshots import PairSettings, PairSettingsError, take_snapshot
from annotate.people.access import ADMINS, READERS
from annotate.projects import trail

ROWS_AT_MOST = 1_000
COUNTED = ("prompts", "pairs", "gold", "duplicates", "different", "updated", "shared_ids")


@api_view(["GET", "POST"])
def prompts(request: Request, slug: str) -> Response:
    """List prompts, or add the new ones of {"prompts": [row, ...]}. Rows are as in a file.

    `"update": true` updates the known ones that differ.
    """
    if request.method == "GET":
        return projects.prompts(request, slug)
    return _bring_in(request, slug, "prompts", pair=False)


@api_view(["GET", "POST"])
def comparisons(request: Request, slug: str) -> Response:
    """List comparisons, or add the pairs to judge, or gold, of {"comparisons": [row, ...]}.

    `"update": true` updates the known ones that differ.
    """
    if request.method == "GET":
        return projects.comparisons(request, slug)
    return _bring_in(request, slug, "comparisons", pair=True)


def _bring_in(request: Request, slug: str, name: str, *, pair: bool) -> Response:
    project, membership = get_project(request, slug, *ADMINS)
    body = request.data if isinstance(request.data, dict) else {}
    rows = body.get(name)
    if not isinstance(rows, list) or not 1 <= len(rows) <= ROWS_AT_MOST:
        raise ValidationError(
            {name: [_("Send a list of 1 to %(most)s rows.") % {"most": f"{ROWS_AT_MOST:,}"}]}
        )
    update = body.get("update", False)
    if not isinstance(update, bool):
        raise ValidationError({"update": [_("Must be true or false.")]})
    items, wrong = [], []
    for position, row in enumerate(rows):
        try:
            items.append((position, _item(row, pair)))
        except RowError as error:
            wrong.append((position, str(error)))
    if wrong:
        raise RowsRefusedError(name, wrong, len(rows))
    try:
        with transaction.atomic():
            outcome = writing.write(project, items, update=update, remarks=ROWS_AT_MOST)
            if outcome.changes_something:
                trail.record(
                    trail.Verb.IMPORTED,
                    membership.user,
                    project=project,
                    target=name,
                    **_by_token(request, rows=len(rows), **writing.details(update=update)),
                )
    except records.ImportRefusedError as refused:
        raise RowsRefusedError(name, refused.errors, len(rows)) from refused
    remarks = [{"row": position, "remark": sentence} for position, sentence in outcome.remarks]
    return Response({"made": {key: outcome.counts[key] for key in COUNTED}, "remarks": remarks}, status=201)


def _item(row: Any, pair: bool) -> records.Item:
    if not isinstance(row, dict):
        raise RowError(_("Each row must be an object."))
    item = records.parse(row)
    if pair and item.completions is None:
        raise RowError(_("A comparison needs completion_a and completion_b."))
    if not pair and item.completions is not None:
        raise RowError(_("Send rows with completions to comparisons/."))
    return item


@api_view(["GET"])
def export(request: Request, slug: str, file_format: str = "") -> HttpResponseBase:
    """Pairs, comparisons or judgments as a file of any format. The query is that of the export page."""
    project, membership = get_project(request, slug, *READERS)
    form = _form(request.query_params, project, file_format)
    try:
        answer = export_download(form)
    except RefusalError as refused:
        raise ValidationError({refused.field or "format": [refused.message]}) from refused
    trail.record(
        trail.Verb.EXPORTED,
        membership.user,
        project=project,
        target=form.chosen_format.name,
        **_by_token(request, **form.chosen()),
    )
    return answer


class _AnyRenderer(DefaultContentNegotiation):
    """A negotiation that leaves `format` to the export: DRF would take it for a renderer's."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


export.cls.content_negotiation_class = _AnyRenderer


def _form(query: Mapping[str, Any], project: Project, file_format: str) -> ExportForm:
    refuse_unknown(query, ExportForm.base_fields)
    form = ExportForm(query, project=project, format=file_format)
    if not form.is_valid():
        raise ValidationError(
            {name: [str(error) for error in errors] for name, errors in form.errors.items()}
        )
    return form


@api_view(["GET", "POST"])
def snapshots(request: Request, slug: str) -> Response:
    """List snapshots, newest first, or freeze the pairs as they are now, by the settings in the body."""
    project, membership = get_project(request, slug, *READERS)
    if request.method == "GET":
        found = project.snapshots.select_related("created_by").order_by("-pk")[:1000]
        return Response({"results": SnapshotOut(found, many=True).data})
    given = SnapshotIn(data=request.data)
    given.is_valid(raise_exception=True)
    policies = given.validated_data.get("policies", [])
    _check_policies(project, policies)
    try:
        settings = PairSettings(**{**given.validated_data, "policies": tuple(dict.fromkeys(policies))})
    except PairSettingsError as error:
        raise ValidationError({error.field: [str(error)]}) from error
    snapshot = take_snapshot(project, membership.user, settings)
    return Response(SnapshotOut(snapshot).data, status=201)


def _check_policies(project: Project, ids: list[int]) -> None:
    known = set(project.policies.values_list("pk", flat=True))
    for position, policy in enumerate(ids):
        if policy not in known:
            raise ValidationError(
                {f"policies.{position}": [_("This project has no policy %(id)s.") % {"id": policy}]}
            )


@api_view(["GET"])
def snapshot(request: Request, slug: str, digest: str) -> Response:
    project, _membership = get_project(request, slug, *READERS)
    return Response(SnapshotOut(get_object_or_404(Snapshot, project=project, digest=digest)).data)


@api_view(["GET"])
def snapshot_pairs(request: Request, slug: str, digest: str, shape: str) -> HttpResponseBase:
    """Return a snapshot's pairs: `exact` lines hash to its digest; `trl` lines are for training."""
    project, membership = get_project(request, slug, *READERS)
    found = get_object_or_404(Snapshot, project=project, digest=digest)
    trail.record(
        trail.Verb.SNAPSHOT_EXPORTED,
        membership.user,
        project=project,
        target=found.digest[:12],
        **_by_token(request, shape=shape),
    )
    return snapshot_download(found, shape)


def _by_token(request: Request, **details: Any) -> dict[str, Any]:
    """Return the details of an entry in the trail, with the token that was used, if one was."""
    if isinstance(request.auth, ApiToken):
        return {**details, "token": request.auth.name}
    return details
