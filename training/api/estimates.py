"""Estimates: what a round would cost, asked before it is started, and answered by a worker."""

from django.shortcuts import get_object_or_404
from rest_framework.response import Response

from annotate.api.access import Scope
from annotate.api.operations.declaration import Call, Endpoint, operation
from annotate.people.access import ADMINS
from training.api.rounds import named_policy
from training.api.shapes import DryRunIn, DryRunOut
from training.models import DryRun
from training.rounds import estimates


class Estimates(Endpoint):
    tag = "Rounds"

    @operation(
        "Estimate a round",
        "A worker measures what it would train on and write, how long that takes and the memory it needs. Nothing is"
        " started. Ask again at the address of the answer while its `state` is waiting or running.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=DryRunIn,
        gives=DryRunOut,
        status=202,
    )
    def post(self, call: Call) -> Response:
        given = dict(call.given)
        kind, count, name = given.pop("kind"), given.pop("count", 100), given.pop("base_model", "")
        if kind == DryRun.Kind.MODEL:
            made = estimates.ask_model(call.project, call.user, name)
        elif kind == DryRun.Kind.WRITING:
            made = estimates.ask_writing(
                call.project,
                call.user,
                count,
                given.get("sampling"),
                given.get("choosing"),
                policy=named_policy(call, "policy", given.get("policy")),
                against=named_policy(call, "against", given.get("against")),
            )
        else:
            against = named_policy(call, "gate_against", given.pop("gate_against", None))
            begin = named_policy(call, "start_from", given.pop("start_from", None))
            made = estimates.ask_round(call.project, call.user, given, begin=begin, against=against)
        return Response(DryRunOut(made).data, status=202)


class OneEstimate(Endpoint):
    tag = "Rounds"

    @operation("Get an estimate", roles=ADMINS, gives=DryRunOut)
    def get(self, call: Call, estimate_id: int) -> Response:
        found = get_object_or_404(DryRun, project=call.project, pk=estimate_id)
        estimates.fail_if_silent(found)
        return Response(DryRunOut(found).data)
