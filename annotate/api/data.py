"""Rows brought in by the API, in batches that are taken whole or not at all; and files taken out."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from annotate import attempts, tasks
from annotate.api.access import Scope, by_token, get_project
from annotate.api.errors import ConflictError, RowsRefusedError, read_errors
from annotate.api.operations.declaration import (
    Call,
    Endpoint,
    Listing,
    Stream,
    client_has,
    mark,
    operation,
)
from annotate.api.pagination import LatestFirst, page_of
from annotate.api.parsing import refuse_unknown
from annotate.api.shapes.files import JobOut
from annotate.errors import RefusalError
from annotate.exports import jobs
from annotate.exports.bundle import CONTENT_TYPES
from annotate.forms.exports import ExportForm, export_download, read_selection
from annotate.imports import records, writing
from annotate.imports.reader import RowError
from annotate.models import Export, Project
from annotate.people.access import READERS
from annotate.projects import trail

ROWS_AT_MOST = 1_000
PAIR_LINE = '{"prompt": "A comedy opens:", "chosen": " It sings.", "rejected": " It sags.", "label": 1.0}'
FILE_KINDS = [kind.partition(";")[0] for kind in CONTENT_TYPES.values() if "ndjson" not in kind]
COUNTED = ("prompts", "pairs", "gold", "duplicates", "different", "updated", "shared_ids")


def bring_in(call: Call, name: str, *, pair: bool) -> Response:
    """Add the rows of the list `name` in the body: all of them or none."""
    project, request = call.project, call.request
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
                    call.user,
                    project=project,
                    target=name,
                    **by_token(request, rows=len(rows), **writing.details(update=update)),
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
    """Return pairs, comparisons or judgments as a file of any format. The query is that of the export page."""
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
        **by_token(request, **form.chosen()),
    )
    return answer


def _form(query: Mapping[str, Any], project: Project, file_format: str) -> ExportForm:
    refuse_unknown(query, ExportForm.base_fields)
    form = ExportForm(query, project=project, format=file_format)
    if not form.is_valid():
        raise ValidationError(read_errors(form))
    return form


class Jobs(Endpoint):
    tag = "Exports"

    @operation("List prepared files", "The newest first.", roles=READERS, gives=Listing(JobOut))
    def get(self, call: Call) -> Response:
        return page_of(call.request, _jobs(call), JobOut, LatestFirst)

    @operation(
        "Prepare a file",
        "As `export/` gives it, for what takes long: the query is the same. Ask for it until its `state` is `done`.",
        scope=Scope.ADMIN,
        roles=READERS,
        query=ExportForm,
        gives=JobOut,
        status=201,
        has_key=True,
        refuses=(409,),
    )
    def post(self, call: Call) -> Response:
        form = call.form
        try:
            made = jobs.request(form.selection(), call.user, form.query(), tasks.send)
        except RefusalError as refused:
            if refused.field:
                raise
            raise ConflictError(refused.message) from refused
        trail.record(
            trail.Verb.EXPORTED,
            call.user,
            project=call.project,
            target=form.chosen_format.name,
            **by_token(call.request, **form.chosen()),
        )
        return Response(JobOut(made).data, status=201)


class OneJob(Endpoint):
    tag = "Exports"

    @operation("Get a prepared file", "How far it is, and its SHA-256.", roles=READERS, gives=JobOut)
    def get(self, call: Call, job_id: UUID) -> Response:
        found = _job(call, job_id)
        if attempts.is_waiting(found):  # no worker took it
            jobs.write_beside(found, read_selection)
        return Response(JobOut(found).data)


class JobFile(Endpoint):
    tag = "Exports"

    @operation(
        "Download a prepared file",
        "Until it expires. Its SHA-256 is its ETag too.",
        roles=READERS,
        gives=Stream(PAIR_LINE, FILE_KINDS),
        keeps=True,
    )
    def get(self, call: Call, job_id: UUID) -> HttpResponseBase:
        found = _job(call, job_id)
        etag = f'"{found.sha256}"'
        if found.can_be_downloaded and client_has(call.request, etag):
            return mark(Response(status=304), etag)
        return mark(jobs.download(found), etag)


class JobCancellation(Endpoint):
    tag = "Exports"

    @operation("Cancel a prepared file", scope=Scope.ADMIN, roles=READERS, gives=JobOut, refuses=(409,))
    def post(self, call: Call, job_id: UUID) -> Response:
        if not _job(call, job_id).cancel():
            raise ConflictError(_("This file is already written, was cancelled or failed."))
        return Response(JobOut(_job(call, job_id)).data)


def _job(call: Call, job_id: UUID) -> Export:
    return get_object_or_404(_jobs(call), pk=job_id)


def _jobs(call: Call) -> QuerySet[Export]:
    return Export.objects.filter(project=call.project).with_expiry().select_related("created_by")
