"""Lists of rounds and policies ask the database as often for twelve rounds as for two."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.judgments import judging
from annotate.models import Comparison, Completion, Policy, Project, Prompt, Snapshot
from annotate.queueing import queue
from training.models import Round
from training.rounds import lineage
from training.standings.gates import measure_gate, measure_gates

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.fixture
def decide_round(project: Project, teammate: Any) -> Callable[..., Round]:
    """decide_round(wins): a rejected round on a snapshot of its own, with a gate that a teammate judged."""

    def decide(wins: int = 1, losses: int = 1) -> Round:
        number = project.rounds.count() + 1
        start = project.policies.latest("pk")
        folder = f"runs/{project.slug}-{number}"
        policy = Policy.objects.create(
            project=project,
            name=f"round {number}",
            kind=Policy.Kind.ADAPTER,
            base_model="starter",
            adapter=f"{folder}/adapter",
            parent=start,
        )
        snapshot = Snapshot.objects.create(project=project, digest=f"{number:064x}", settings={}, counts={})
        round_ = Round.objects.create(
            project=project,
            number=number,
            state="rejected",
            start_policy=start,
            result_policy=policy,
            snapshot=snapshot,
            folder=folder,
        )
        for is_won in [True] * wins + [False] * losses:
            round_.gate.add(judge_gate(round_, is_won))
        return round_

    def judge_gate(round_: Round, is_won: bool) -> Comparison:
        prompt = Prompt(project=project, held_out=True)
        prompt.set_content(f"Prompt {project.prompts.count()}")
        prompt.save()
        first, second = (
            Completion.objects.create(prompt=prompt, policy=policy, text=policy.name)
            for policy in (round_.start_policy, round_.result_policy)
        )
        comparison = Comparison.objects.create(
            project=project, prompt=prompt, first=first, second=second, kind="gate"
        )
        claim = queue.claim(project, teammate)  # of the one comparison that is open
        assert claim is not None
        preferred = second if is_won else first
        judging.record(project, teammate, claim.token, judging.Verdict("prefer", preferred.pk, 1))
        return comparison

    return decide


@pytest.mark.parametrize("page", ["rounds", "policies", "snapshots"])
def test_a_list_asks_as_often_for_twelve_as_for_two(
    page: str, decide_round: Callable[..., Round], project: Project, owner: Any, client_for: Any
) -> None:
    client = client_for(owner)
    counts = []
    for more in (2, 10):
        for _ in range(more):
            decide_round()
        client.get(reverse(page, args=[project.slug]))  # what the first request alone asks, it has asked
        with CaptureQueriesContext(
            connection,
        ) as queries:
            response = client.get(reverse(page, args=[project.slug]))
        counts.append(len(queries))
        assert response.content.decode().count("Round ") >= project.rounds.count()
    assert counts[0] == counts[1]


def test_lineages_ask_as_often_for_twelve_as_for_two(
    decide_round: Callable[..., Round], project: Project
) -> None:
    first = project.policies.get()
    counts = []
    for more in (2, 10):
        for _ in range(more):
            decide_round()
        newest = project.policies.latest("pk")
        with CaptureQueriesContext(connection) as queries:
            back = [step.policy for step in lineage.trace_back(newest)]
            on = lineage.find_descendants(first)
        counts.append(len(queries))
        assert back == [*reversed(on), first]
    assert counts[0] == counts[1]


def test_each_round_has_its_own_gate(decide_round: Callable[..., Round]) -> None:
    won, lost = decide_round(wins=3, losses=0), decide_round(wins=1, losses=2)
    shared = won.gate.first()  # of which the second round's policy wrote nothing
    assert shared is not None
    lost.gate.add(shared)
    gates = measure_gates([won, lost])
    assert (gates[won.pk].total, gates[won.pk].wins, gates[won.pk].losses) == (3, 3, 0)
    assert (gates[lost.pk].total, gates[lost.pk].wins, gates[lost.pk].losses) == (4, 1, 3)
    assert gates[won.pk] == measure_gate(won)
