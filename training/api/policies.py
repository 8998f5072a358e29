"""Policies, their strengths in the judgments, and their lineage."""

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from rest_framework.response import Response

from annotate.api.access import Scope, by_token
from annotate.api.operations.declaration import Call, Endpoint, Listing, operation
from annotate.api.pagination import page_of
from annotate.models import Judgment, Policy
from annotate.pairs.downloads import download
from annotate.people.access import ADMINS, READERS
from annotate.projects import trail
from training.api.policy_shapes import (
    CardOut,
    JudgmentLineageOut,
    LeaderboardOut,
    NameIn,
    PolicyLineageOut,
    PolicyOut,
    WholePolicyOut,
    place_data,
)
from training.provenance import lineage_file
from training.rounds import deciding, lineage
from training.standings.policies import find_anchor, rank_policies
from training.usage import model_card
from training.usage.naming import rename


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
        deciding.roll_back(call.project, get_object_or_404(policies_of(call), pk=policy_id), call.user)
        return answer(call, policy_id)


class Name(Endpoint):
    tag = "Policies"

    @operation(
        "Rename a policy",
        "One with weights here, or an endpoint. Policies that files brought along keep their names.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=NameIn,
        gives=WholePolicyOut,
    )
    def post(self, call: Call, policy_id: int) -> Response:
        rename(get_object_or_404(policies_of(call), pk=policy_id), call.given["name"], call.user)
        return answer(call, policy_id)


class Card(Endpoint):
    tag = "Policies"

    @operation(
        "Get the model card of a policy",
        "As Markdown, in the field `card`.",
        roles=READERS,
        gives=CardOut,
    )
    def get(self, call: Call, policy_id: int) -> Response:
        policy = get_object_or_404(policies_of(call), pk=policy_id)
        _record(call, f"model card of {policy.name}")
        return Response({"card": model_card.write(policy)})


class PolicyLineage(Endpoint):
    tag = "Policies"

    @operation(
        "Get the lineage of a policy",
        "Its parents, rounds, snapshots and pairs, and the judgments behind them under pseudonyms. It streams.",
        roles=READERS,
        gives=PolicyLineageOut,
    )
    def get(self, call: Call, policy_id: int) -> HttpResponseBase:
        policy = get_object_or_404(policies_of(call), pk=policy_id)
        _record(call, f"lineage of {policy.name}")
        name = f"{call.project.slug}-policy-{policy.pk}-lineage.json"
        return download(lineage_file.policy_lines(policy), name, "application/json")


class JudgmentLineage(Endpoint):
    tag = "Policies"

    @operation(
        "Get the lineage of a judgment",
        "The pairs that hold it, the rounds that trained on them, and the policies that it shaped.",
        roles=READERS,
        gives=JudgmentLineageOut,
    )
    def get(self, call: Call, judgment_id: int) -> Response:
        found = Judgment.objects.filter(project=call.project).select_related("project")
        judgment = get_object_or_404(found, pk=judgment_id)
        _record(call, f"lineage of judgment {judgment.pk}")
        return Response(lineage_file.judgment_lineage(judgment))


def _record(call: Call, target: str) -> None:
    trail.record(
        trail.Verb.EXPORTED, call.user, project=call.project, target=target, **by_token(call.request)
    )


class Leaderboard(Endpoint):
    tag = "Policies"

    @operation(
        "Get the leaderboard",
        "Strengths by Bradley and Terry, on an equal side, with intervals clustered by comparison and annotator.",
        roles=READERS,
        gives=LeaderboardOut,
    )
    def get(self, call: Call) -> Response:
        rows = rank_policies(call.project)
        anchor = find_anchor(rows)
        places = [place_data(policy, strength) for policy, strength in rows]
        return Response({"anchor": anchor.name if anchor else None, "results": places})


def policies_of(call: Call) -> QuerySet[Policy]:
    return Policy.objects.filter(project=call.project).select_related("round", "project")


def answer(call: Call, policy_id: int) -> Response:
    """Return a policy with its family."""
    policy = get_object_or_404(policies_of(call), pk=policy_id)
    return Response(
        {
            **PolicyOut(policy).data,
            "ancestors": [one.name for one in lineage.find_ancestors(policy)],
            "descendants": [one.name for one in lineage.find_descendants(policy)],
            "completions": policy.completions.count(),
        }
    )
