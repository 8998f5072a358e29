"""The pages of lineage: a drawing with a list beside it, and the same as JSON."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.models import Judgment, Policy, Project, Role, User
from annotate.pairs.downloads import download
from annotate.people.access import READERS, ProjectRequest, project_view
from annotate.people.pseudonyms import pseudonym
from annotate.projects import trail
from training.models import Round
from training.provenance import lineage_file
from training.rounds import lineage
from training.views.lineage_graph import MOST_ROWS, Shaped, draw, nearest

MOST_PEOPLE = 50


@require_GET
@project_view(*READERS)
def policy_lineage(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Draw a policy with all that it came from and all that came from it."""
    project = request.project
    policy = get_object_or_404(project.policies.select_related("parent"), pk=policy_id)
    shaped = _shaped(
        project, [*reversed(lineage.find_ancestors(policy)), policy, *lineage.find_descendants(policy)]
    )
    until = next(row for row, one in enumerate(shaped) if one.policy == policy)
    sources = [one.round.snapshot_id for one in shaped[: until + 1] if one.round and one.round.snapshot_id]
    people = lineage_file.count_by_annotator(sources)
    context = {
        "policy": policy,
        "graph": draw(shaped, project.slug, here=policy),
        "shaped": nearest(shaped, policy),
        "more": len(shaped) - MOST_ROWS,
        "people": _named(request, people[:MOST_PEOPLE]),
        "more_people": len(people) - MOST_PEOPLE,
        "total": sum(count for _person, count in people),
        "section": "policies",
    }
    return render(request, "training/lineage.html", context)


def _shaped(project: Project, policies: list[Policy]) -> list[Shaped]:
    rounds = Round.objects.filter(project=project, result_policy__in=[policy.pk for policy in policies])
    made_by = {round_.result_policy_id: round_ for round_ in rounds.select_related("snapshot")}
    for round_ in made_by.values():
        round_.project = project
    holdings = lineage.count_holdings(one.snapshot_id for one in made_by.values() if one.snapshot_id)
    references, known = lineage.references_of_policies(project.pk), {policy.pk: policy for policy in policies}
    found = []
    for policy in policies:
        made = made_by.get(policy.pk)
        holds = holdings.get(made.snapshot_id) if made and made.snapshot_id else None
        found.append(Shaped(policy, made, holds, known.get(references.get(policy.pk, 0))))
    return found


def _named(request: ProjectRequest, people: Iterable[tuple[int, int]]) -> list[tuple[str, str, int]]:
    """Return the pseudonym, the name that admins see beside it, and the number of judgments of each annotator."""
    counted = list(people)
    names: dict[int, str] = {}
    if request.membership.role == Role.ADMIN:
        names = dict(User.objects.filter(pk__in=[pk for pk, _n in counted]).values_list("pk", "username"))
    return [(pseudonym(pk), names.get(pk, ""), count) for pk, count in counted]


@require_GET
@project_view(*READERS)
def policy_lineage_file(request: ProjectRequest, policy_id: int) -> StreamingHttpResponse:
    """Send a policy's lineage as JSON: parents, rounds, snapshots, pairs, and judgments under pseudonyms."""
    project = request.project
    policy = get_object_or_404(project.policies.select_related("project"), pk=policy_id)
    trail.record(trail.Verb.EXPORTED, request.user, project=project, target=f"lineage of {policy.name}")
    name = f"{project.slug}-policy-{policy.pk}-lineage.json"
    return download(lineage_file.policy_lines(policy), name, "application/json")


@require_GET
@project_view(*READERS)
def judgment_lineage(request: ProjectRequest, judgment_id: int) -> HttpResponse:
    """Draw the policies that a judgment shaped."""
    project = request.project
    judgment = _judgment(project, judgment_id)
    influences = lineage.find_influences_of(judgment)
    direct = {one.policy.pk for one in influences if one.round}
    shaped = [
        replace(one, by_descent=one.policy.pk not in direct)
        for one in _shaped(project, [one.policy for one in influences])
    ]
    comparison = judgment.comparison
    context: dict[str, Any] = {
        "judgment": judgment,
        "comparison": comparison,
        "influences": influences,
        "graph": draw(
            shaped,
            project.slug,
            judgment=str(judgment.get_strength_display() or judgment.get_verdict_display()),
            judgment_url=reverse("comparison", args=[project.slug, comparison.pk]),
        ),
        "title": _("What judgment %(id)s shaped") % {"id": judgment.pk},
        "annotator": _named(request, [(judgment.annotator_id, 1)])[0],
        "section": "comparisons",
    }
    return render(request, "training/shaped.html", context)


@require_GET
@project_view(*READERS)
def judgment_lineage_file(request: ProjectRequest, judgment_id: int) -> JsonResponse:
    """Send a judgment's lineage as JSON."""
    judgment = _judgment(request.project, judgment_id)
    trail.record(
        trail.Verb.EXPORTED,
        request.user,
        project=request.project,
        target=f"lineage of judgment {judgment.pk}",
    )
    name = f"{request.project.slug}-judgment-{judgment.pk}-lineage.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    options = {"ensure_ascii": False, "indent": 1}
    return JsonResponse(lineage_file.judgment_lineage(judgment), headers=headers, json_dumps_params=options)


def _judgment(project: Project, judgment_id: int) -> Judgment:
    found = Judgment.objects.filter(project=project).select_related("comparison__prompt", "project")
    return get_object_or_404(found, pk=judgment_id)
