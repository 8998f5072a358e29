"""Rounds and policies by the API: started, watched and decided about as on the pages."""

import json

import pytest
from django.conf import settings as site

from annotate.models import ApiToken
from tests.annotate.api.caller import API, Caller
from training.models import DryRun, Metric, Round

pytestmark = pytest.mark.once


@pytest.fixture
def caller():
    return lambda user: Caller(ApiToken.issue(user, "a test")[1])


@pytest.fixture
def send(owner, caller):
    script = caller(owner)

    def send(method, path, body=None, **headers):
        given = json.dumps(body) if body is not None else ""
        answer = script.client.generic(
            method, f"{API}reviews/{path}", given, content_type="application/json", headers=headers
        )
        return answer.status_code, answer.json() if answer.content else None

    return send


def test_a_round_is_started_watched_and_cancelled(ready_project, tiny, send):
    assert send("GET", "rounds/ready/")[1]["train"] == 12
    key = {"Idempotency-Key": "round-1"}
    status, made = send("POST", "rounds/", tiny, **key)
    assert (status, made["number"], made["state"], made["created_by"]) == (201, 1, "queued", "olive")
    assert made["settings"]["config"]["epochs"] == 1
    assert send("POST", "rounds/", tiny, **key)[1] == made
    assert send("POST", "rounds/", tiny)[0] == 400  # one is open
    assert [one["number"] for one in send("GET", "rounds/")[1]["results"]] == [1]
    cancelled = send("POST", "rounds/1/cancel/")[1]
    assert (cancelled["state"], cancelled["events"][-1]["by"]) == ("cancelled", "olive")
    assert send("POST", "rounds/1/cancel/")[0] == 409
    assert send("GET", "rounds/2/")[0] == 404


def test_a_wrong_setting_of_a_round_is_named(ready_project, send):
    for body, field in (
        ({"training": {"epochs": -1}}, "epochs"),
        ({"training": {"base_model": "/etc"}}, "base_model"),
        ({"pairs": {"ties": "perhaps"}}, "pairs.ties"),
        ({"pairs": {"smoothing": []}}, "pairs"),
        ({"pairs": {"policies": "abc"}}, "pairs.policies"),
        ({"pairs": {"policies": [[1]]}}, "pairs.policies"),
        ({"choosing": {"by": []}}, "choosing.by"),
        ({"training": {"assist": {"pairs": 100_000, "candidates": 3}}}, "assist.pairs"),
        ({"sampling": {"max_new_tokens": "many"}}, "sampling.max_new_tokens"),
        ({"fresh_comparisons": -1}, "fresh_comparisons"),
        ({"colour": "red"}, "colour"),
    ):
        status, answer = send("POST", "rounds/", body)
        assert (status, answer["field"]) == (400, field)
    assert not Round.objects.exists()


def test_a_round_that_only_writes_is_started(ready_project, send):
    status, made = send("POST", "rounds/writing/", {"count": 5})
    assert (status, made["trains"], made["settings"]["fresh_comparisons"]) == (201, False, 5)


def test_a_ready_round_is_decided_once(make_round, send, project):
    round_ = make_round("ready")
    Metric.objects.create(round=round_, step=2, values={"loss": 0.5})
    Metric.objects.create(round=round_, step=1, values={"loss": 0.7})
    assert [one["step"] for one in send("GET", "rounds/1/metrics/")[1]["results"]] == [1, 2]
    assert send("GET", "rounds/1/gate/")[1]["verdict"] == "even"
    assert send("POST", "rounds/1/promote/")[1]["state"] == "promoted"
    assert send("POST", "rounds/1/reject/")[0] == 409
    policies = {one["name"]: one for one in send("GET", "policies/")[1]["results"]}
    assert (policies["round 1"]["round"], policies["round 1"]["is_current"]) == (1, True)
    starter = f"policies/{policies['starter']['id']}/"
    assert send("GET", starter)[1]["descendants"] == ["round 1"]
    assert send("POST", f"{starter}current/")[1]["is_current"] is True
    assert send("POST", f"{starter}current/")[0] == 400
    board = send("GET", "leaderboard/")[1]
    assert (board["anchor"], len(board["results"])) == ("starter", 2)


def test_a_failed_round_is_resumed(make_round, send):
    make_round("failed")
    assert send("POST", "rounds/1/resume/")[1]["state"] == "queued"
    assert send("POST", "rounds/1/resume/")[0] == 400


def test_metrics_that_a_client_has_are_not_sent_again(make_round, owner, caller):
    round_ = make_round("rejected")
    Metric.objects.create(round=round_, step=1, values={"loss": 0.7})
    client, address = caller(owner).client, f"{API}reviews/rounds/1/metrics/"
    etag = client.get(address)["ETag"]
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304


def test_annotators_and_outsiders_learn_nothing_of_rounds(make_round, teammate, outsider, caller):
    make_round("ready")
    for path in (
        "rounds/",
        "rounds/1/",
        "rounds/1/gate/",
        "policies/",
        "leaderboard/",
        "rounds/ready/",
        "rounds/choosing/",
        "workers/",
    ):
        statuses = [caller(person).get(f"reviews/{path}").status_code for person in (teammate, outsider)]
        assert statuses == [403, 404], path


def test_a_researcher_looks_and_starts_nothing(ready_project, researcher, caller, tiny):
    script = caller(researcher)
    assert script.get("reviews/rounds/").status_code == 200
    assert script.post("reviews/rounds/", tiny).status_code == 403


def test_an_estimate_keeps_the_policies_that_it_is_asked_for(make_round, send):
    other = make_round("rejected").result_policy
    (site.VAR / other.adapter).mkdir(parents=True, exist_ok=True)
    current, named = other.project.current_policy, {"policy": other.name, "against": "starter"}
    for body, begin, against in (
        ({"kind": "writing", "count": 3} | named, other, current),
        ({"kind": "writing", "count": 3, "against": other.name}, None, other),
        ({"start_from": other.name, "gate_against": other.name}, other, other),
    ):
        status, made = send("POST", "rounds/estimates/", body)
        assert status == 202, made
        kept = DryRun.objects.get(pk=made["id"])
        assert (kept.begin, kept.against) == (begin, against)
    for body, field in (
        ({"kind": "writing", "policy": "unknown"}, "policy"),
        ({"kind": "writing", "against": "unknown"}, "against"),
        ({"gate_against": "unknown"}, "gate_against"),
        ({"start_from": "unknown"}, "start_from"),
        ({"policy": other.name}, "policy"),
        ({"against": other.name}, "against"),
    ):
        assert send("POST", "rounds/estimates/", body)[1]["field"] == field
