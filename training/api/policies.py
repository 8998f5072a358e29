"""Policies, and their strengths in the judgments."""

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework.response import Response

from annotate.api.access import Scope
from annotate.api.operations.declaration import Call, Endpoint, Listing, operation
from annotate.api.pagination import page_of
from annotate.models import Policy
from annotate.people.access import ADMINS, READERS
from training.api.shapes import LeaderboardOut, PolicyOut, WholePolicyOut, place_data
from training.rounds import lineage, standings, state_machine


class Policies(Endpoint):
    tag = "Policies"

    @operation("List policies", "The oldest first.", roles=READERS, gives=Listing(PolicyOut))
    def get(self, call: Call) -> Response:
        return page_of(call.request, policies_of(call), PolicyOut)


class OnePolicy(Endpoint):
    tag = "Policies"

    @operation("Get a policy", roles=READERS, gives=WholePolicyOut)
    def get(self, call: Call, policy_id: int) -> Response:
        return answer(call, policy_id)


class Current(Endpoint):
    tag = "Policies"

    @operation(
        "Make a policy current again",
        "One that was current before. Nothing is lost.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=WholePolicyOut,
    )
    def post(self, call: Call, policy_id: int) -> Response:
        state_machine.roll_back(call.project, get_object_or_404(policies_of(call), pk=policy_id), call.user)
        return answer(call, policy_id)


class Leaderboard(Endpoint):
    tag = "Policies"

    @operation(
        "Get the leaderboard",
        "Strengths by Bradley and Terry, with bootstrap intervals.",
        roles=READERS,
        gives=LeaderboardOut,
    )
    def get(self, call: Call) -> Response:
        rows = standings.rank_policies(call.project)
        oldest = min((policy for policy, _strength in rows), key=lambda policy: policy.pk, default=None)
        places = [place_data(policy, strength) for policy, strength in rows]
        return Response({"anchor": oldest.name if oldest else None, "results": places})


def policies_of(call: Call) -> QuerySet[Policy]:
    return Policy.objects.filter(project=call.project).select_related("round", "project")


def answer(call: Call, policy_id: int) -> Response:
    """Return a policy with its family."""
    policy = get_object_or_404(policies_of(call), pk=policy_id)
    return Response(
        {
            **PolicyOut(policy).data,
            "ancestors": [one.name for one in lineage.ancestors(policy)],
            "descendants": [one.name for one in lineage.descendants(policy)],
            "completions": policy.completions.count(),
        }
    )
