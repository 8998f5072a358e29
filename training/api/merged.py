"""Merged weights by the API: asked for in a precision, watched while a worker makes them, and downloaded."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.response import Response

from annotate.api.access import Scope, by_token
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
from annotate.api.pagination import LatestFirst, page_of
from annotate.people.access import READERS
from annotate.projects import trail
from training.api.policies import policies_of
from training.api.policy_shapes import MergedIn, MergedOut
from training.models import MergedWeights
from training.usage import merging


class Merges(Endpoint):
    tag = "Policies"

    @operation("List merged weights", "The newest first.", roles=READERS, gives=Listing(MergedOut))
    def get(self, call: Call, policy_id: int) -> Response:
        policy = get_object_or_404(policies_of(call), pk=policy_id)
        return page_of(call.request, _merges(call).filter(policy=policy), MergedOut, LatestFirst)

    @operation(
        "Merge a policy",
        "A worker merges the adapter into its base model. Ask for it until its `state` is `done`. Weights of the same"
        " `precision` that are ready, or on their way, are not made twice.",
        scope=Scope.ADMIN,
        roles=READERS,
        takes=MergedIn,
        gives=MergedOut,
        status=202,
        has_key=True,
    )
    def post(self, call: Call, policy_id: int) -> Response:
        policy = get_object_or_404(policies_of(call), pk=policy_id)
        made = merging.request(policy, call.user, call.given["precision"])
        _record(call, made, precision=made.precision)
        return Response(MergedOut(_merge(call, made.pk)).data, status=202)


class OneMerge(Endpoint):
    tag = "Policies"

    @operation("Get merged weights", "How far they are, and their SHA-256.", roles=READERS, gives=MergedOut)
    def get(self, call: Call, merge_id: UUID) -> Response:
        merging.look_after(_merge(call, merge_id))
        return Response(MergedOut(_merge(call, merge_id)).data)


class MergeFile(Endpoint):
    tag = "Policies"

    @operation(
        "Download merged weights",
        "A tar file, until it expires. Its SHA-256 is its ETag too.",
        roles=READERS,
        gives=Stream("", ["application/x-tar"]),
        keeps=True,
    )
    def get(self, call: Call, merge_id: UUID) -> HttpResponseBase:
        merge = _merge(call, merge_id)
        etag = f'"{merge.sha256}"'
        if merge.can_be_downloaded and client_has(call.request, etag):
            return mark(Response(status=304), etag)
        answer = merging.download(merge)
        _record(call, merge)
        return mark(answer, etag)


class MergeCancellation(Endpoint):
    tag = "Policies"

    @operation("Cancel merged weights", scope=Scope.ADMIN, roles=READERS, gives=MergedOut, refuses=(409,))
    def post(self, call: Call, merge_id: UUID) -> Response:
        if not _merge(call, merge_id).cancel():
            raise ConflictError(_("These weights are already merged, or the merge was cancelled or failed."))
        return Response(MergedOut(_merge(call, merge_id)).data)


def _merge(call: Call, merge_id: UUID) -> MergedWeights:
    found: MergedWeights = get_object_or_404(_merges(call), pk=merge_id)
    return found


def _merges(call: Call) -> QuerySet[MergedWeights]:
    found = MergedWeights.objects.filter(policy__project=call.project)
    return found.with_expiry().select_related("policy", "created_by")


def _record(call: Call, merge: MergedWeights, **details: Any) -> None:
    target = f"merged weights of {merge.policy.name}"
    details |= by_token(call.request)
    trail.record(trail.Verb.EXPORTED, call.user, project=call.project, target=target, **details)
