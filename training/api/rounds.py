"""Rounds: start one, watch it, and decide about its policy. The same functions as the pages call."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.response import Response

from annotate.api.access import Scope
from annotate.api.errors import ConflictError
from annotate.api.operations.declaration import Call, Endpoint, Listing, operation
from annotate.api.pagination import ByKey, NewestFirst, page_of
from annotate.errors import RefusalError
from annotate.models import Policy, User
from annotate.people.access import ADMINS, READERS
from primitives.text import printable
from training.api.shapes import (
    AuditOut,
    GateOut,
    MetricOut,
    ReadinessOut,
    ResumptionIn,
    RoundIn,
    RoundOut,
    WholeRoundOut,
    WorkerOut,
    WritingIn,
    audit_data,
    gate_data,
)
from training.models import Round, Worker
from training.rounds import deciding, state_machine
from training.rounds.choosing.defaults import chooses_regardless
from training.rounds.plan import dotted
from training.rounds.readiness import MIN_PAIRS, find_readiness
from training.rounds.starts import RoundError
from training.standings.audit import recall_audit
from training.standings.gates import measure_gate


class Rounds(Endpoint):
    tag = "Rounds"

    @operation("List rounds", "The newest first.", roles=READERS, gives=Listing(RoundOut))
    def get(self, call: Call) -> Response:
        return page_of(call.request, rounds_of(call), RoundOut, NewestFirst)

    @operation(
        "Start a round",
        "It trains on the judgments of this moment. In a large project a worker freezes their pairs: `snapshot` is"
        " null until then. It starts from the project's base policy, unless `start_from` names another.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=RoundIn,
        gives=WholeRoundOut,
        status=201,
        has_key=True,
    )
    def post(self, call: Call) -> Response:
        chosen = dict(call.given)
        against = named_policy(call, "gate_against", chosen.pop("gate_against", None))
        begin = named_policy(call, "start_from", chosen.pop("start_from", None))
        made = state_machine.start(call.project, call.user, chosen, against=against, begin=begin)
        return Response(WholeRoundOut(made).data, status=201)


class Writing(Endpoint):
    tag = "Rounds"

    @operation(
        "Start a round that only writes",
        "The current policy writes comparisons, and nothing is trained.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=WritingIn,
        gives=WholeRoundOut,
        status=201,
        has_key=True,
    )
    def post(self, call: Call) -> Response:
        named = {name: named_policy(call, name, call.given.get(name)) for name in ("policy", "against")}
        count, sampling = call.given["count"], call.given.get("sampling")
        choosing = call.given.get("choosing")
        made = state_machine.write(call.project, call.user, count, sampling, choosing=choosing, **named)
        return Response(WholeRoundOut(made).data, status=201)


def named_policy(call: Call, field: str, name: str | None) -> Policy | None:
    """Return the policy of the project with this name; None without one. Raises RefusalError, naming the field."""
    if name is None:
        return None
    found = Policy.objects.filter(project=call.project, name=name).first()
    if found is None:
        sentence = _("There is no policy “%(name)s” in this project.")
        raise RefusalError(sentence % {"name": printable(name)}, field)
    return found


class Readiness(Endpoint):
    tag = "Rounds"

    @operation("Get the pairs that a round would have", roles=READERS, gives=ReadinessOut)
    def get(self, call: Call) -> Response:
        try:
            found = find_readiness(call.project)
        except RoundError as error:
            return Response({"min_pairs": MIN_PAIRS, "cannot_start": str(error)})
        account = found.account
        few = _("A round needs %(min)d pairs to train on.") % {"min": MIN_PAIRS}
        return Response(
            {
                **{
                    name: getattr(account, name) for name in ("judgments", "comparisons", "train", "held_out")
                },
                "left_out": [{"reason": why, "comparisons": count} for why, count in account.left_out],
                "new_judgments": found.new_judgments,
                "min_pairs": MIN_PAIRS,
                "cannot_start": None if found.has_enough else few,
            }
        )


class Choosing(Endpoint):
    tag = "Rounds"

    @operation("Get what choosing comparisons saves", roles=READERS, gives=AuditOut)
    def get(self, call: Call) -> Response:
        regardless = chooses_regardless(call.project)
        return Response(audit_data(recall_audit(call.project), regardless=regardless))


class Workers(Endpoint):
    tag = "Rounds"

    @operation(
        "List the workers that are running",
        "With what they compute. They take the rounds of all projects.",
        roles=READERS,
        gives=Listing(WorkerOut),
    )
    def get(self, call: Call) -> Response:
        return page_of(call.request, Worker.objects.present(), WorkerOut)


class OneRound(Endpoint):
    tag = "Rounds"

    @operation(
        "Get a round", "Ask again while `state` is queued, training or sampling.", roles=READERS, gives=WholeRoundOut
    )  # fmt: skip
    def get(self, call: Call, number: int) -> Response:
        return answer(call, number)


class Metrics(Endpoint):
    tag = "Rounds"

    @operation(
        "List the metrics of a round",
        "Step by step. Those of a finished round never change.",
        roles=READERS,
        gives=Listing(MetricOut),
        has_etag=True,
    )
    def get(self, call: Call, number: int) -> Response:
        return page_of(call.request, find(call, number).metrics.all(), MetricOut, BySteps)


class BySteps(ByKey):
    """Steps by their number: a resumed run writes some of them again."""

    ordering = "step"


class Gate(Endpoint):
    tag = "Rounds"

    @operation("Get the gate of a round", roles=READERS, gives=GateOut)
    def get(self, call: Call, number: int) -> Response:
        return Response(gate_data(measure_gate(find(call, number))))


class Resumption(Endpoint):
    tag = "Rounds"

    @operation(
        "Resume a round",
        "One that failed goes on from its last checkpoint. The body may change what its result does not depend on.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=ResumptionIn,
        gives=WholeRoundOut,
    )
    def post(self, call: Call, number: int) -> Response:
        given = {"config": call.given.get("training"), "sampling": call.given.get("sampling")}
        changes = dict(dotted({group: options for group, options in given.items() if options}))
        state_machine.resume(find(call, number), call.user, changes)
        return answer(call, number)


class Cancellation(Endpoint):
    tag = "Rounds"

    @operation("Cancel a round", scope=Scope.ADMIN, roles=ADMINS, gives=WholeRoundOut, refuses=(409,))
    def post(self, call: Call, number: int) -> Response:
        return move(call, number, state_machine.cancel)


class Promotion(Endpoint):
    tag = "Rounds"

    @operation(
        "Promote a round",
        "Its policy becomes the current one.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=WholeRoundOut,
        refuses=(409,),
    )
    def post(self, call: Call, number: int) -> Response:
        return move(call, number, deciding.promote)


class Rejection(Endpoint):
    tag = "Rounds"

    @operation(
        "Reject a round",
        "The policy before it stays, and its comparisons that are not judged in full are withdrawn.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=WholeRoundOut,
        refuses=(409,),
    )
    def post(self, call: Call, number: int) -> Response:
        return move(call, number, deciding.reject)


def rounds_of(call: Call) -> QuerySet[Round]:
    found = Round.objects.filter(project=call.project)
    return found.select_related("start_policy", "result_policy", "snapshot", "created_by")


def find(call: Call, number: int) -> Round:
    return get_object_or_404(rounds_of(call), number=number)


def answer(call: Call, number: int) -> Response:
    """Return a round as it stands now."""
    found: Any = rounds_of(call).prefetch_related("events__by")
    return Response(WholeRoundOut(get_object_or_404(found, number=number)).data)


def move(call: Call, number: int, act: Callable[[Round, User], bool]) -> Response:
    """Make a move of the state machine. Raises ConflictError where the round is in no state for it."""
    found = find(call, number)
    if not act(found, call.user):
        sentence = _("Round %(number)d is %(state)s: this cannot be done.")
        raise ConflictError(sentence % {"number": number, "state": found.get_state_display().lower()})
    return answer(call, number)
