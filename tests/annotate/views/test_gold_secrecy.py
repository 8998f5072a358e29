"""An annotator who looks after each verdict cannot tell gold from standard: by no count, body, header or figure."""

import random
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotate.judgments import judging
from annotate.models import ApiToken, Claim, Project
from annotate.queueing import queue
from annotate.queueing.workload import count_workload
from annotate.reports import my_work
from tests.annotate.desk import FRAGMENT, on_screen, url
from tests.factories import TIE, say


@pytest.fixture
def mixed(project: Project, make_comparisons: Any) -> Project:
    """Return a project with a third of gold and some gate, in a drawn order."""
    random.seed(2)
    project.gold_rate = 0.35
    project.save()
    make_comparisons(9)
    make_comparisons(2, kind="gate", priority=20)
    make_comparisons(12, kind="gold")
    return project


def left_on_pages(client: Client) -> tuple[int, int]:
    """Return what the desk and the home page say is left."""
    desk = re.search(r'id="left">(\d+)<', client.get(url("judge")).content.decode())
    home = re.search(r"(\d+) left", client.get("/").content.decode())
    assert desk
    assert home
    return int(desk[1]), int(home[1])


def kind_of(token: str) -> str:
    return str(Claim.objects.get(token=token).comparison.kind)


@pytest.mark.once
def test_each_verdict_takes_one_from_the_count(client_for: Any, teammate: Any, mixed: Project) -> None:
    client = client_for(teammate)
    kinds, counts = [], []
    while fields := on_screen(client):
        kinds.append(kind_of(fields["token"]))
        counts.append(left_on_pages(client))
        answer = client.post(url("judge"), {**fields, "verdict": "tie"}, headers=FRAGMENT)
        assert answer.status_code == 200
    assert counts == [(number, number) for number in range(len(kinds), 0, -1)]
    assert kinds.count("gold") == 6  # a share of 0.35 beside eleven others
    assert count_workload(mixed, teammate).left == 0


@pytest.mark.once
def test_undo_and_redo_count_alike(client_for: Any, teammate: Any, mixed: Project) -> None:
    client = client_for(teammate)
    for _ in range(12):
        before = left_on_pages(client)
        client.post(url("judge"), {**on_screen(client), "verdict": "skip"}, headers=FRAGMENT)
        client.post(url("undo"), headers=FRAGMENT)
        assert left_on_pages(client) == before
        client.post(url("redo"), headers=FRAGMENT)
        assert left_on_pages(client)[0] == before[0] - 1


def blind(answer: Any) -> tuple[int, Any, str]:
    """Return what an answer says, with the texts, tokens, times and numbers of its comparison taken out."""
    body = answer.content.decode()
    for pattern, word in (
        (r"[0-9a-f]{8}-[0-9a-f-]{27}", "TOKEN"),
        (r"20\d\d-\d\d-\d\dT[\d:.]+Z?", "TIME"),
        (r"splendidly|dreadfully", "WORD"),
        (r'csrfmiddlewaretoken" value="\w+"', "CSRF"),
        (r"\d+", "N"),
    ):
        body = re.sub(pattern, word, body)
    names = sorted(name for name in answer.headers if name != "Content-Length")
    return answer.status_code, names, body


@pytest.mark.once
def test_no_answer_of_the_desk_differs(client_for: Any, teammate: Any, mixed: Project) -> None:
    client = client_for(teammate)
    seen: dict[str, set[Any]] = {"gold": set(), "standard": set()}
    client.post(url("judge"), {**on_screen(client), "verdict": "tie"}, headers=FRAGMENT)
    for _ in range(13):  # all of these have one fetched ahead
        page = client.get(url("judge"))
        fields = on_screen(client)
        token = fields["token"]
        answers = [page, client.get(url("judge"), headers=FRAGMENT), client.get(url("texts", token))]
        answers.append(client.post(url("renew"), {"token": token}, headers=FRAGMENT))
        answers.append(client.post(url("draft"), {"token": token, "rationale": "x"}, headers=FRAGMENT))
        answers.append(client.post(url("judge"), {**fields, "verdict": "tie"}, headers=FRAGMENT))
        answers.append(client.post(url("undo"), headers=FRAGMENT))
        answers.append(client.post(url("redo"), headers=FRAGMENT))
        if (kind := kind_of(Claim.objects.get(pk=claim_of(token)).token)) in seen:
            seen[kind].add(tuple(map(repr, map(blind, answers))))
    assert seen["gold"]
    assert len(seen["gold"] | seen["standard"]) == 1


def claim_of(token: str) -> int:
    """Return the claim's key. Its token has changed with the undo."""
    from annotate.models import Judgment

    judgment = Judgment.objects.get(token=token)
    return int(Claim.objects.values_list("pk", flat=True).get(
        comparison=judgment.comparison_id, annotator=judgment.annotator_id
    ))  # fmt: skip


@pytest.mark.once
def test_no_answer_of_the_api_differs(teammate: Any, mixed: Project) -> None:
    headers = {"Authorization": f"Bearer {ApiToken.issue(teammate, 'script')[1]}"}
    client, base = Client(headers=headers), "/api/v1/projects/reviews/"
    seen: dict[str, set[Any]] = {"gold": set(), "standard": set(), "gate": set()}
    for _ in range(14):
        taken = client.post(f"{base}next/")
        token = taken.json()["claim"]["token"]
        renewed = client.post(f"{base}claims/{token}/renew/")
        body = {"token": token, "verdict": "tie", "seconds": 0.0}
        given = client.post(f"{base}judgments/", body, content_type="application/json")
        seen[kind_of(token)].add(repr([blind(taken), blind(renewed), blind(given)]))
    assert seen["gold"]
    assert len(seen["gold"] | seen["standard"]) == 1


@pytest.mark.once
def test_repeats_count_like_the_others(
    client_for: Any, teammate: Any, project: Project, make_comparisons: Any
) -> None:
    random.seed(4)
    project.repeat_rate = 0.2
    project.save()
    make_comparisons(60)
    before = count_workload(project, teammate).left
    kinds = []
    while (claim := queue.claim(project, teammate)) and count_workload(project, teammate).open:
        assert count_workload(project, teammate).left == before
        kinds.append(claim.comparison.kind)
        judging.judge_and_next(project, teammate, claim.token, TIE)
        before -= 1
    assert "repeat" in kinds


def test_own_agreement_tells_nothing_of_today(
    project: Project, teammate: Any, owner: Any, make_comparisons: Any
) -> None:
    """All annotators judge gold, so that its verdict would be compared at once."""
    [gold], [shared] = make_comparisons(1, kind="gold"), make_comparisons(1, needed=2)
    for comparison in (gold, shared):
        say(owner, comparison, "first")
        say(teammate, comparison, "first")
    agreement = my_work.measure_work(project, teammate).agreement
    assert agreement is not None
    assert agreement.total == 0


def test_lower_rates_leave_no_trace_in_the_count(
    project: Project, teammate: Any, make_comparisons: Any
) -> None:
    """More gold was judged than is due now: no more is handed out, and the others count down to nothing."""
    project.gold_rate = 0.05
    project.save()
    make_comparisons(5)
    for comparison in make_comparisons(4, kind="gold"):
        say(teammate, comparison, "tie")
    for number in range(5, 0, -1):
        assert count_workload(project, teammate).left == number
        claim = queue.claim(project, teammate)
        assert claim is not None
        assert claim.comparison.kind == "standard"
        judging.record(project, teammate, claim.token, TIE)
    assert queue.claim(project, teammate) is None


def statements(act: Any) -> tuple[str, ...]:
    """Return what an act asks of the database, with every value taken out."""
    with CaptureQueriesContext(connection) as asked:
        act()
    return tuple(re.sub(r"'[^']*'|\d+|[0-9a-f]{32}", "?", query["sql"]) for query in asked)


def test_gold_costs_the_database_what_others_do(client_for: Any, teammate: Any, mixed: Project) -> None:
    """Equal work is equal time: no page of gold, and no verdict on it, is slower or faster."""
    client = client_for(teammate)
    seen: dict[str, set[Any]] = {"gold": set(), "standard": set()}
    client.get(url("judge"))
    while claim := queue.claim(mixed, teammate):
        kind = str(claim.comparison.kind)
        is_followed = queue.claim_next(mixed, teammate) is not None
        acts = [
            statements(lambda: client.get(url("judge"))),
            statements(lambda token=claim.token: client.get(url("texts", token))),
            statements(
                lambda token=claim.token: client.post(url("renew"), {"token": token}, headers=FRAGMENT)
            ),
            statements(lambda token=claim.token: judging.record(mixed, teammate, token, TIE)),
        ]
        if kind in seen and is_followed:
            seen[kind].add(tuple(acts))
    assert seen["gold"]
    assert seen["gold"] == seen["standard"]  # a difference names its statement
    assert len(seen["gold"]) == 1
