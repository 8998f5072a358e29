"""The API: judging blind, one shape of errors, batches taken whole or not at all, and rows out."""

import hashlib
import json

import pytest

from annotate.api.data import COUNTED
from annotate.models import Comparison, Judgment, Prompt, Snapshot, stored_aspects
from annotate.queueing import queue
from tests.annotate.api.caller import API
from tests.factories import judge


def lines(answer):
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


# --- Judging -----------------------------------------------------------------------------------------------------


def test_an_annotator_learns_neither_policy_nor_kind_nor_gold(project, teammate, make_comparisons, caller):
    make_comparisons(1, kind="gold")
    project.gold_rate = 0.5
    project.save()
    make_comparisons(1, kind="gate")
    script = caller(teammate)
    seen = [script.get("reviews/").content, script.post("reviews/next/").content]
    seen.append(script.get("reviews/judgments/").content)
    for content in seen:
        for secret in (b"starter", b"gold", b"gate", b"policy", b"kind"):
            assert secret not in content


def test_a_comparison_is_claimed_judged_and_stored_once(project, teammate, make_comparisons, caller):
    make_comparisons(2)
    script = caller(teammate)
    claim = script.post("reviews/next/").json()["claim"]
    assert script.post("reviews/next/").json()["claim"]["token"] == claim["token"]
    body = {"token": claim["token"], "verdict": "prefer", "preferred_id": claim["right"]["id"], "strength": 3}
    first, second = (script.post("reviews/judgments/", body) for _ in range(2))
    assert first.status_code == 201
    assert first.json() == second.json()
    judgment = Judgment.objects.get()
    assert (judgment.preferred.text, judgment.left.text) == (claim["right"]["text"], claim["left"]["text"])
    assert script.post("reviews/next/").json()["claim"]["token"] != claim["token"]


def test_the_sides_are_those_that_were_drawn(project, teammate, make_comparisons, caller):
    make_comparisons(1)
    drawn = queue.claim(project, teammate)
    shown = caller(teammate).post("reviews/next/").json()["claim"]
    assert (shown["left"]["text"], shown["right"]["text"]) == (drawn.left.text, drawn.right.text)


def test_annotators_are_told_sides_and_never_ids(project, owner, teammate, make_comparisons, caller):
    project.criteria = stored_aspects(["helpful"])
    project.save()
    make_comparisons(1)
    script = caller(teammate)
    claim = script.post("reviews/next/").json()["claim"]
    helpful = {"verdict": "prefer", "preferred_id": "a", "strength": 1}
    body = {"token": claim["token"], "verdict": "prefer", "preferred_id": "b", "strength": 2}
    said = script.post("reviews/judgments/", body | {"criteria": {"helpful": helpful}}).json()
    judgment = Judgment.objects.get()
    assert judgment.criteria["helpful"]["preferred_id"] == judgment.left_id
    assert (said["preferred_id"], said["criteria"]["helpful"]["preferred_id"]) == ("b", "a")
    assert said == script.get("reviews/judgments/").json()["results"][0]
    for hidden in (judgment.left_id, judgment.right_id):
        assert hidden not in (said["preferred_id"], said["criteria"]["helpful"]["preferred_id"])
    known = caller(owner).get("reviews/judgments/").json()["results"][0]
    assert (known["preferred_id"], known["left_id"]) == (judgment.right_id, judgment.left_id)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"verdict": "great"}, "verdict"),
        ({"strength": 4}, "strength"),
        ({"strength": None}, "strength"),
        ({"preferred_id": None}, "preferred_id"),
        ({"preferred_id": 10**30}, "preferred_id"),
        ({"reasons": ["because"]}, "reasons"),
        ({"reasons": "vivid"}, "reasons"),
        ({"criteria": {"kind": {"verdict": "tie"}}}, "criteria"),
        ({"rationale": "x" * 10_001}, "rationale"),
        ({"rationale": "\ud800"}, "rationale"),
        ({"seconds": -1}, "seconds"),
        ({"token": "nonsense"}, "token"),
        ({"strenght": 2}, "strenght"),
    ],
)
def test_a_bad_verdict_is_refused_naming_its_field(
    project, teammate, make_comparisons, caller, change, field
):
    make_comparisons(1)
    script = caller(teammate)
    claim = script.post("reviews/next/").json()["claim"]
    body = {"token": claim["token"], "verdict": "prefer", "preferred_id": claim["left"]["id"], "strength": 2}
    answer = script.post("reviews/judgments/", body | change)
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert not Judgment.objects.exists()


def test_anothers_claim_cannot_be_judged_renewed_or_released(
    project, teammate, owner, make_comparisons, caller
):
    make_comparisons(1)
    claim = queue.claim(project, owner)
    script = caller(teammate)
    assert script.post("reviews/judgments/", {"token": str(claim.token), "verdict": "tie"}).status_code == 400
    for action in ("renew", "release"):
        assert script.post(f"reviews/claims/{claim.token}/{action}/").status_code == 404
    claim.refresh_from_db()
    assert claim.state == "live"


def test_a_released_claim_goes_back_to_the_queue(project, teammate, owner, make_comparisons, caller):
    make_comparisons(1)
    script = caller(teammate)
    token = script.post("reviews/next/").json()["claim"]["token"]
    assert script.post(f"reviews/claims/{token}/release/").status_code == 204
    assert queue.claim(project, owner) is not None


def test_an_annotator_lists_only_their_own_judgments(project, teammate, owner, make_comparisons, caller):
    make_comparisons(1, needed=2)
    for person in (teammate, owner):
        script = caller(person)
        token = script.post("reviews/next/").json()["claim"]["token"]
        script.post("reviews/judgments/", {"token": token, "verdict": "tie"})
    assert [
        one["annotator_name"] for one in caller(teammate).get("reviews/judgments/").json()["results"]
    ] == ["toni"]
    assert len(caller(owner).get("reviews/judgments/").json()["results"]) == 2


# --- Rows in -----------------------------------------------------------------------------------------------------


def test_a_batch_with_one_bad_row_brings_nothing_in(project, owner, caller):
    rows = [{"prompt": "good"}, {"prompt": ""}, "text", {"prompt": "x", "colour": "red"}]
    answer = caller(owner).post("reviews/prompts/", {"prompts": rows})
    assert answer.status_code == 400
    assert answer.json()["field"] == "prompts.1"
    assert [row["row"] for row in answer.json()["rows"]] == [1, 2, 3]
    assert not Prompt.objects.exists()


def test_a_batch_sent_again_adds_nothing(project, owner, caller):
    rows = [{"prompt": "p", "completion_a": "a", "completion_b": "b", "gold": "b"}]
    first, again = (
        caller(owner).post("reviews/comparisons/", {"comparisons": rows}).json() for _ in range(2)
    )
    none = dict.fromkeys(COUNTED, 0)
    assert first == {"made": {**none, "prompts": 1, "gold": 1}, "remarks": []}
    assert again == {"made": {**none, "duplicates": 1}, "remarks": []}
    assert Comparison.objects.get().gold_preferred.text == "b"


def test_a_known_row_that_differs_is_updated_if_asked(project, owner, caller):
    pair = {"prompt": "p", "completion_a": "a", "completion_b": "b", "id": "c1"}
    for name, first, changed in (
        ("comparisons", {**pair, "gold": "b"}, {**pair, "gold": "a", "withdrawn": True}),
        ("prompts", {"prompt": "p", "id": "p1"}, {"prompt": "p", "id": "p1", "withdrawn": True}),
    ):
        caller(owner).post(f"reviews/{name}/", {name: [first], "update": True})
        left = caller(owner).post(f"reviews/{name}/", {name: [changed]}).json()
        assert left["made"]["different"] == 1
        assert [remark["row"] for remark in left["remarks"]] == [0]
        assert "withdrawn is false here" in left["remarks"][0]["remark"]
        assert (
            caller(owner)
            .post(f"reviews/{name}/", {name: [changed], "update": True})
            .json()["made"]["updated"]
        )
        (row,) = caller(owner).get(f"reviews/{name}/").json()["results"]
        assert (row["external_id"], row["withdrawn_at"] is None) == (first["id"], False)
    assert Comparison.objects.get().gold_preferred.text == "a"
    assert (
        caller(owner).post("reviews/prompts/", {"prompts": [pair], "update": 1}).json()["field"] == "update"
    )


@pytest.mark.parametrize(
    "body", [{}, [], {"prompts": {}}, {"prompts": []}, {"prompts": [{"prompt": str(n)} for n in range(1001)]}]
)
def test_a_batch_is_a_list_of_up_to_a_thousand_rows(project, owner, caller, body):
    answer = caller(owner).client.post(
        f"{API}reviews/prompts/", json.dumps(body), content_type="application/json"
    )
    assert answer.status_code == 400
    assert answer.json()["field"] == "prompts"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{broken", 400),
        ("[" * 100_000, 400),
        ('{"prompts": [{"prompt": NaN}]}', 400),
        ("\xff\xfe", 400),
        (json.dumps({"prompts": [{"prompt": "x" * 3_000_000}]}), 413),
    ],
)
def test_a_bad_or_oversized_body_is_refused_in_the_same_shape(project, owner, caller, body, status):
    answer = caller(owner).client.post(
        f"{API}reviews/prompts/", body.encode("latin-1"), content_type="application/json"
    )
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "field"}
    assert not Prompt.objects.exists()


def test_lists_are_walked_by_cursor(project, owner, make_comparisons, caller):
    made = [comparison.pk for comparison in make_comparisons(5)]
    script, seen, address = caller(owner), [], f"{API}reviews/comparisons/?page_size=2"
    while address:
        page = script.client.get(address).json()
        seen += [comparison["id"] for comparison in page["results"]]
        address = page["next"]
    assert seen == made


# --- Rows out ----------------------------------------------------------------------------------------------------


def test_pairs_and_snapshots_say_the_same_as_the_pages(judged, researcher, caller, client_for):
    script = caller(researcher)
    pairs = lines(script.get("reviews/pairs/"))
    page = client_for(researcher).get("/p/reviews/export/pairs.jsonl")
    assert pairs == lines(page)
    table = script.get("reviews/pairs.csv", held_out="leave")
    assert table["Content-Type"] == "text/csv; charset=utf-8"
    assert b"".join(table.streaming_content).count(b"\r\n") == 1 + len(pairs)
    snapshot = script.post("reviews/snapshots/", {"votes": "equal"}).json()
    exact = b"".join(script.get(f"reviews/snapshots/{snapshot['digest']}/exact/").streaming_content)
    assert hashlib.sha256(exact).hexdigest() == snapshot["digest"]
    assert len(lines(script.get(f"reviews/snapshots/{snapshot['digest']}/pairs/"))) == len(pairs) == 2
    assert script.get("reviews/snapshots/").json()["results"] == [snapshot]


@pytest.mark.parametrize("path", ["reviews/pairs/", "reviews/pairs.csv"])
def test_pairs_are_for_researchers_and_admins(judged, teammate, outsider, caller, path):
    assert caller(teammate).get(path).status_code == 403
    assert caller(outsider).get(path).status_code == 404


@pytest.mark.parametrize(("name", "value"), [("votes", "loudest"), ("colour", "red"), ("since", "x")])
def test_an_unknown_filter_is_refused_by_name(judged, researcher, caller, name, value):
    answer = caller(researcher).get("reviews/pairs/", **{name: value})
    assert (answer.status_code, answer.json()["field"]) == (400, name)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ties": "perhaps"}, "ties"),
        ({"smoothing": -1}, "smoothing"),
        ({"smoothing": "x"}, "smoothing"),
        ({"x": 1}, "x"),
    ],
)
def test_a_bad_setting_of_a_snapshot_is_refused_by_name(judged, researcher, caller, body, field):
    answer = caller(researcher).post("reviews/snapshots/", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert not Snapshot.objects.exists()


def test_an_aggregation_counts_once_and_there_is_a_limit(project, judged, researcher, caller):
    [policy, *_others] = project.policies.values_list("pk", flat=True)
    snapshots = [caller(researcher).post("reviews/snapshots/", {"policies": [policy] * n}) for n in (1, 2)]
    assert snapshots[0].json()["digest"] == snapshots[1].json()["digest"]
    assert Snapshot.objects.get().settings["policies"] == [policy]
    refused = caller(researcher).post("reviews/snapshots/", {"policies": [policy] * 201})
    assert (refused.status_code, refused.json()["field"]) == (400, "policies")


@pytest.mark.parametrize("path", ["nothing/", "reviews/nothing/", "reviews/snapshots/0123/"])
def test_an_unknown_address_answers_in_the_same_shape(project, owner, caller, path):
    answer = caller(owner).get(path)
    assert answer.status_code == 404
    assert answer.json().keys() == {"error", "field"}


def test_a_wrong_method_answers_in_the_same_shape(project, owner, caller):
    answer = caller(owner).client.delete(f"{API}reviews/prompts/")
    assert answer.status_code == 405
    assert answer.json().keys() == {"error", "field"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("comparisons/?kind=golden", "kind"),
        ("prompts/?withdrawn=1", "withdrawn"),
        ("judgments/?annotator=toni", "annotator"),
        ("judgments/?history=yes", "history"),
        ("comparisons/?page_size=many", "page_size"),
        ("prompts/?page_size=0", "page_size"),
        ("pairs/?batch=import+9", "batch"),
        ("pairs/?annotator=nobody", "annotator"),
    ],
)
def test_an_unknown_filter_or_value_is_named(project, owner, caller, query, field):
    answer = caller(owner).get(f"reviews/{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_admins_see_whose_pseudonym_it_is(project, owner, researcher, teammate, caller, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    caller(teammate).post("reviews/judgments/", {"token": str(claim.token), "verdict": "tie"})
    for person, name in ((owner, "toni"), (teammate, "toni"), (researcher, None)):
        (row,) = caller(person).get("reviews/judgments/").json()["results"]
        assert (row["annotator"], row.get("annotator_name")) == (f"annotator-{teammate.pk}", name)
        assert ("right_id" in row) is (person != teammate)


def test_prompts_come_with_what_was_said_of_them(judged, owner, caller):
    rows = caller(owner).get("reviews/prompts/", has="flags").json()
    assert rows["results"] == []
    first, _second = caller(owner).get("reviews/prompts/").json()["results"]
    assert first == caller(owner).get(f"reviews/prompts/{first['id']}/").json()
    assert (first["figures"]["judgments"], first["figures"]["skips"]) == (1, 0)


def test_prompts_are_ranked(project, judged, teammate, owner, caller, make_comparisons):
    (bad,) = make_comparisons()
    judge(project, teammate, "skip")
    assert caller(owner).get("reviews/prompts/ranking/", order="skips").json() == {
        "results": [],
        "older": None,
    }
    answer = caller(owner).get("reviews/prompts/ranking/", order="skips", least=1).json()
    assert [row["id"] for row in answer["results"]] == [bad.prompt_id]
    refused = caller(owner).get("reviews/prompts/ranking/", order="worst")
    assert (refused.status_code, refused.json()["field"]) == (400, "order")
    assert caller(owner).get("reviews/prompts/ranking/").json()["field"] == "order"
