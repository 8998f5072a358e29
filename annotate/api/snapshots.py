"""Snapshots by the API: taken at once or by a worker, and given out as they were frozen."""

from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from annotate import attempts, tasks
from annotate.api.access import Scope, by_token
from annotate.api.data import PAIR_LINE
from annotate.api.errors import ConflictError
from annotate.api.operations.declaration import (
    Call,
    Endpoint,
    Listing,
    Stream,
    client_has,
    mark,
    operation,
)
from annotate.api.pagination import LatestFirst, NewestFirst, page_of
from annotate.api.shapes.rows import SnapshotIn, SnapshotJobOut, SnapshotOut
from annotate.errors import RefusalError
from annotate.models import Project, Snapshot, SnapshotJob
from annotate.pairs.downloads import snapshot_download
from annotate.pairs.frozen import jobs as snapshot_jobs
from annotate.pairs.settings import PairSettings, PairSettingsError
from annotate.people.access import READERS
from annotate.projects import trail

EXACT_LINE = '{"chosen": " It sings.", "comparison": 3, "held_out": false, "judgments": [21], "label": 1.0}'


class Snapshots(Endpoint):
    tag = "Exports"

    @operation("List snapshots", "The newest first.", roles=READERS, gives=Listing(SnapshotOut))
    def get(self, call: Call) -> Response:
        found = call.project.snapshots.select_related("created_by")
        return page_of(call.request, found, SnapshotOut, NewestFirst)

    @operation(
        "Take a snapshot",
        "Freeze the pairs as they are now. The same pairs give the snapshot that exists. That of a large project "
        "is taken by a worker: ask for it until its `state` is `done`.",
        scope=Scope.ADMIN,
        roles=READERS,
        takes=SnapshotIn,
        gives=SnapshotOut,
        status=201,
        later=SnapshotJobOut,
        later_at="jobs/{id}/",
        has_key=True,
        refuses=(409,),
    )
    def post(self, call: Call) -> Response:
        policies = call.given.get("policies", [])
        _check_policies(call.project, policies)
        try:
            settings = PairSettings(**{**call.given, "policies": tuple(dict.fromkeys(policies))})
        except PairSettingsError as error:
            raise ValidationError({error.field: [str(error)]}) from error
        try:
            found = snapshot_jobs.freeze(call.project, call.user, settings, tasks.send_snapshot)
        except RefusalError as refused:
            raise ConflictError(refused.message) from refused
        if isinstance(found, SnapshotJob):
            return Response(SnapshotJobOut(found).data, status=202)
        return Response(SnapshotOut(found).data, status=201)


def _check_policies(project: Project, ids: list[int]) -> None:
    known = set(project.policies.values_list("pk", flat=True))
    for position, policy in enumerate(ids):
        if policy not in known:
            raise ValidationError(
                {f"policies.{position}": [_("This project has no policy %(id)s.") % {"id": policy}]}
            )


class SnapshotJobs(Endpoint):
    tag = "Exports"

    @operation(
        "List snapshots under way",
        "The newest first, with those that ended a short time ago.",
        roles=READERS,
        gives=Listing(SnapshotJobOut),
    )
    def get(self, call: Call) -> Response:
        return page_of(call.request, _jobs(call), SnapshotJobOut, LatestFirst)


class OneSnapshotJob(Endpoint):
    tag = "Exports"

    @operation(
        "Get a snapshot under way",
        "How far it is, and its digest once its `state` is `done`.",
        roles=READERS,
        gives=SnapshotJobOut,
    )
    def get(self, call: Call, job_id: UUID) -> Response:
        found = _job(call, job_id)
        if attempts.is_waiting(found):  # no worker took it
            snapshot_jobs.take_beside(found)
        return Response(SnapshotJobOut(found).data)


class SnapshotJobCancellation(Endpoint):
    tag = "Exports"

    @operation(
        "Cancel a snapshot under way", scope=Scope.ADMIN, roles=READERS, gives=SnapshotJobOut, refuses=(409,)
    )
    def post(self, call: Call, job_id: UUID) -> Response:
        if not _job(call, job_id).cancel():
            raise ConflictError(_("This snapshot is already taken, was cancelled or failed."))
        return Response(SnapshotJobOut(_job(call, job_id)).data)


def _job(call: Call, job_id: UUID) -> SnapshotJob:
    return get_object_or_404(_jobs(call), pk=job_id)


def _jobs(call: Call) -> QuerySet[SnapshotJob]:
    return SnapshotJob.objects.filter(project=call.project).select_related("snapshot", "created_by")


class OneSnapshot(Endpoint):
    tag = "Exports"

    @operation("Get a snapshot", roles=READERS, gives=SnapshotOut, has_etag=True)
    def get(self, call: Call, digest: str) -> Response:
        return Response(SnapshotOut(_snapshot(call, digest)).data)


class SnapshotPairs(Endpoint):
    tag = "Exports"

    @operation(
        "Get the pairs of a snapshot",
        "One pair a line, for training, in TRL's format with provenance.",
        roles=READERS,
        gives=Stream(example=PAIR_LINE),
    )
    def get(self, call: Call, digest: str) -> HttpResponseBase:
        return _send(call, _snapshot(call, digest), "trl")


class ExactPairs(Endpoint):
    tag = "Exports"

    @operation(
        "Get the exact pairs of a snapshot",
        "One pair a line: the lines whose SHA-256 is the snapshot's digest, which is their ETag too.",
        roles=READERS,
        gives=Stream(example=EXACT_LINE),
        keeps=True,
    )
    def get(self, call: Call, digest: str) -> HttpResponseBase:
        found = _snapshot(call, digest)
        etag = f'"{found.digest}"'
        if client_has(call.request, etag):
            return mark(Response(status=304), etag)
        return mark(_send(call, found, "exact"), etag)


def _snapshot(call: Call, digest: str) -> Snapshot:
    return get_object_or_404(Snapshot, project=call.project, digest=digest)


def _send(call: Call, found: Snapshot, shape: str) -> HttpResponseBase:
    trail.record(
        trail.Verb.SNAPSHOT_EXPORTED,
        call.user,
        project=call.project,
        target=found.digest[:12],
        **by_token(call.request, shape=shape),
    )
    return snapshot_download(found, shape)
