"""The API can do all that the pages of a project can, by the same rules."""

import hashlib
import json
from base64 import b64encode

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.exports.jobs import LIVE_AT_MOST
from annotate.models import (
    ApiToken,
    Comparison,
    Flag,
    Import,
    Invitation,
    Judgment,
    Membership,
    Project,
    Prompt,
    TrailEntry,
)
from annotate.projects.lifecycle import create_project
from annotate.queueing import queue
from annotate.tasks import write_export
from tests.annotate.api.caller import API
from tests.factories import judge, say

pytestmark = pytest.mark.once


@pytest.fixture
def send(owner, caller):
    """send("PATCH", "settings/", {...}): the status and the answer."""
    script = caller(owner)

    def send(method, path, body=None):
        given = json.dumps(body) if body is not None else ""
        answer = script.client.generic(method, f"{API}reviews/{path}", given, content_type="application/json")
        return answer.status_code, answer.json() if answer.content else None

    return send


def test_a_project_is_made_with_the_permission(outsider, caller):
    script = caller(outsider)
    assert script.post("", {"name": "Plays"}).status_code == 403
    outsider.user_permissions.add(Permission.objects.get(codename="add_project"))
    made = script.post("", {"name": "Plays", "base_model": "starter", "judgments_needed": 2})
    assert (made.status_code, made.json()["slug"], made.json()["role"]) == (201, "plays", "admin")
    assert Project.objects.get().current_policy.base_model == "starter"
    refused = script.post("", {"name": "Plays", "base_model": "/etc"})
    assert (refused.status_code, refused.json()["field"]) == (400, "base_model")


@pytest.mark.parametrize(
    ("role", "titles"),
    [("annotator", ["Asked"]), ("researcher", ["Asked", "Of a file"]), ("admin", ["Asked", "Of a file"])],
)
def test_annotators_get_the_titles_that_are_asked_for(project, make_member, caller, role, titles):
    """A file may have named others, by what its annotators thought of each other's work."""
    member = make_member("nora", role)
    of_file = {"key": "of-a-file", "title": "Of a file", "removed": True, "imported": True}
    asked = [{"key": "asked", "title": "Asked"}, of_file]
    Project.objects.filter(pk=project.pk).update(reasons=asked, criteria=asked)
    found = caller(member).client.get(f"{API}reviews/").json()
    assert [one["title"] for one in found["reasons"]] == titles
    assert [one["title"] for one in found["criteria"]] == titles


def test_settings_change_one_by_one(project, send):
    Project.objects.update(gold_rate=0.25, visible_metadata=["lang"], training_settings={"beta": 0.2})
    body = {
        "judgments_needed": 3,
        "reasons": [{"title": "Vivid"}, {"title": "True"}],
        "guidelines": "Be kind.",
    }
    status, found = send("PATCH", "settings/", body)
    assert (status, found["judgments_needed"], found["guidelines"]) == (200, 3, "Be kind.")
    assert (found["gold_rate"], found["visible_metadata"], found["training_settings"]) == (
        0.25,
        ["lang"],
        {"beta": 0.2},
    )
    vivid = {"key": "vivid", "title": "Lively", "asked": False}
    _status, found = send("PATCH", "settings/", {"reasons": [vivid], "image_hosts": ["a.example.org"]})
    assert vivid in found["reasons"]
    assert {"key": "true", "title": "True", "asked": True} in found["reasons"]
    assert send("GET", "settings/") == (200, found)
    targets = list(TrailEntry.objects.filter(verb="settings").values_list("target", flat=True))
    assert [set(target.split(", ")) for target in targets] == [
        {"reasons", "image_hosts"},
        {"judgments_needed", "reasons", "guidelines"},
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"judgments_needed": 51}, "judgments_needed"),
        ({"gold_rate": 2}, "gold_rate"),
        ({"colour": "red"}, "colour"),
        ({"reasons": [{"key": "none", "title": "x"}]}, "reasons"),
        ({"base_model": "/etc"}, "base_model"),
        ({"training_settings": []}, "training_settings"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_changes(project, send, body, field):
    status, answer = send("PATCH", "settings/", {"name": "New", **body})
    assert (status, answer["field"]) == (400, field)
    assert Project.objects.get().name == "Film reviews"


def test_a_project_is_archived_and_opened_again(project, send):
    assert send("POST", "archive/")[1]["archived"] is True
    assert send("DELETE", "archive/")[1]["archived"] is False
    assert set(TrailEntry.objects.values_list("verb", flat=True)) == {"archived", "restored"}


MINE = f"{API.removesuffix('projects/')}my/invitations/"


def test_an_invited_person_joins_or_declines_by_the_api(project, outsider, teammate, caller, send):
    guest, other = caller(outsider).client, caller(teammate).client
    for role, act in (("annotator", "delete"), ("researcher", "post")):
        send("POST", "invitations/", {"person": outsider.username, "role": role})
        [waiting] = guest.get(MINE).json()["results"]
        assert (waiting["slug"], waiting["role"], waiting["invited_by"]) == ("reviews", role, "olive")
        where = f"{MINE}{waiting['id']}/"
        assert other.get(MINE).json() == {"results": []}
        assert (other.post(where).status_code, other.delete(where).status_code) == (404, 404)
        answer = getattr(guest, act)(where)
        assert answer.status_code == {"delete": 204, "post": 200}[act]
        assert guest.get(MINE).json() == {"results": []}
        again = guest.post(where)
        assert (again.status_code, again.json()["error"]) == (
            404,
            "That invitation was withdrawn, or has ended.",
        )
    assert answer.json() == {
        "slug": "reviews",
        "name": "Film reviews",
        "role": "researcher",
        "archived": False,
    }
    assert Membership.objects.get(user=outsider).role == "researcher"


@pytest.mark.parametrize(
    ("limits", "listed", "status"), [({"scope": "judge"}, 1, 403), ({"project": True}, 0, 403)]
)
def test_a_narrow_token_joins_no_project(project, outsider, caller, send, limits, listed, status):
    send("POST", "invitations/", {"person": outsider.username, "role": "annotator"})
    waiting = Invitation.objects.get()
    if "project" in limits:
        limits = {"project": create_project(outsider, name="Other")}
    _row, token = ApiToken.issue(outsider, "narrow", **limits)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert len(client.get(MINE).json()["results"]) == listed
    assert client.post(f"{MINE}{waiting.pk}/").status_code == status
    assert Invitation.objects.exists()


def test_members_are_invited_changed_and_removed(project, owner, teammate, send):
    status, made = send("POST", "invitations/", {"person": "otto", "role": "annotator"})
    assert (status, made["name"], made["invited_by"]) == (201, "otto", "olive")
    assert send("POST", "invitations/", {"person": "otto", "role": "annotator"})[1]["field"] == "person"
    assert [one["id"] for one in send("GET", "invitations/")[1]["results"]] == [made["id"]]
    assert send("DELETE", f"invitations/{made['id']}/")[0] == 204
    assert not Invitation.objects.exists()
    members = {one["username"]: one for one in send("GET", "members/")[1]["results"]}
    toni = f"members/{members['toni']['id']}/"
    assert send("PATCH", toni, {"role": "researcher"})[1]["role"] == "researcher"
    assert send("POST", f"{toni}admit/")[0] == 200
    assert send("DELETE", toni)[0] == 204
    assert send("DELETE", toni)[0] == 404
    mine = f"members/{members['olive']['id']}/"
    for method, body in (("DELETE", None), ("PATCH", {"role": "annotator"})):
        assert send(method, mine, body)[0] == 400  # the only admin
    assert list(Membership.objects.values_list("user", flat=True)) == [owner.pk]
    verbs = [one["verb"] for one in send("GET", "trail/")[1]["results"]]
    assert verbs == ["removed", "admitted", "role", "withdrawn", "invited"]
    assert [one["target"] for one in send("GET", "trail/?verb=removed")[1]["results"]] == ["toni"]


def test_prompts_and_comparisons_are_withdrawn_and_restored(project, make_comparisons, send):
    [comparison] = make_comparisons(1)
    for row in (f"prompts/{comparison.prompt_id}/", f"comparisons/{comparison.pk}/"):
        assert send("POST", f"{row}withdrawal/")[1]["withdrawn_at"]
        assert send("GET", row)[1]["withdrawn_at"]
        name = row.partition("/")[0]
        assert len(send("GET", f"{name}/?state=withdrawn")[1]["results"]) == 1
        assert send("DELETE", f"{row}withdrawal/")[1]["withdrawn_at"] is None
        assert send("GET", f"{name}/?state=withdrawn")[1]["results"] == []
    assert send("POST", f"comparisons/{comparison.pk + 1}/withdrawal/")[0] == 404


def test_a_higher_priority_is_handed_out_first(project, teammate, make_comparisons, send):
    last = make_comparisons(6)[-1]
    assert send("PATCH", f"comparisons/{last.pk}/", {"priority": 7})[1]["priority"] == 7
    assert queue.claim(project, teammate).comparison == last
    for wrong in (-1, 10**6, "high"):
        assert send("PATCH", f"comparisons/{last.pk}/", {"priority": wrong})[1]["field"] == "priority"


def test_what_was_set_aside_is_handed_out_again(project, make_member, make_comparisons, send):
    for comparison in make_comparisons(2):
        for name in ("a", "b", "c"):
            say(make_member(f"{name}{comparison.pk}", "annotator"), comparison, "skip")
    first, second = Comparison.objects.order_by("pk")
    assert send("POST", f"comparisons/{first.pk}/again/")[1]["is_set_aside"] is False
    assert send("POST", "comparisons/again/") == (200, {"count": 1})
    assert not Comparison.objects.set_aside().exists()
    assert second.pk


def test_lists_are_narrowed_by_filters(project, teammate, make_comparisons, send):
    make_comparisons(1, kind="gold")
    make_comparisons(2)
    judge(project, teammate)
    for query, count in (
        ("kind=gold", 1),
        ("verdict=tie", 1),
        ("annotator=toni&state=finished", 1),
        ("q=nothing", 0),
    ):
        assert len(send("GET", f"comparisons/?{query}")[1]["results"]) == count, query
    assert len(send("GET", "judgments/?annotator=toni&verdict=tie")[1]["results"]) == 1
    assert send("GET", "judgments/?verdict=skip")[1]["results"] == []
    assert send("GET", "judgments/?since=2099-01-01")[1]["results"] == []


def test_a_page_has_a_thousand_rows_at_most(project, owner, caller):
    Prompt.objects.bulk_create(
        Prompt(project=project, content=f"Film {number}:", digest=str(number)) for number in range(1_001)
    )
    page = caller(owner).get("reviews/prompts/", page_size=5_000).json()
    assert (len(page["results"]), page["next"] is not None) == (1_000, True)


def test_a_flag_is_raised_and_resolved(project, teammate, make_comparisons, caller, send):
    make_comparisons(1)
    token = queue.claim(project, teammate).token
    assert caller(teammate).post(f"reviews/claims/{token}/flag/", {"note": "Cut."}).status_code == 204
    [flag] = send("GET", "flags/")[1]["results"]
    assert (flag["note"], flag["annotator_name"], flag["resolved_at"]) == ("Cut.", "toni", None)
    assert send("POST", f"flags/{flag['id']}/resolve/")[1]["resolved_at"]
    assert not Flag.objects.open().exists()


def test_a_judgment_is_revised_undone_and_redone(project, teammate, make_comparisons, caller, owner):
    make_comparisons(2)
    script = caller(teammate)
    first = judge(project, teammate, "left")
    body = json.dumps({"verdict": "prefer", "preferred_id": "b", "strength": 1})
    address = f"{API}reviews/judgments/"
    revised = script.client.put(f"{address}{first.pk}/", body, content_type="application/json").json()
    assert (revised["preferred_id"], revised["replaces_id"]) == ("b", first.pk)
    assert script.client.get(f"{address}{first.pk}/").json()["superseded_at"]
    assert script.post("reviews/judgments/undo/").json()["claim"]["token"]
    assert not Judgment.objects.current().exists()
    assert script.post("reviews/judgments/redo/").json()["judgment"]["id"] == revised["id"]
    assert script.post("reviews/judgments/redo/").json() == {"judgment": None}
    other = caller(owner).client
    assert other.put(f"{address}{revised['id']}/", body, content_type="application/json").status_code == 404
    assert script.get("reviews/judgments/", comparison=first.comparison_id).status_code == 400


def test_a_file_is_uploaded_checked_started_and_withdrawn(project, owner, caller, send):
    script = caller(owner)
    lines = b"\n".join(b'{"prompt": "Film %d opens:"}' % number for number in range(3))

    def upload(content, **more):
        file = SimpleUploadedFile("films.jsonl", content)
        return script.client.post(f"{API}reviews/imports/", {"file": file, **more})

    made = upload(lines)
    assert (made.status_code, made.json()["state"], made.json()["filename"]) == (
        201,
        "checking",
        "films.jsonl",
    )
    one = f"imports/{made.json()['id']}/"
    checked = send("POST", f"{one}work/")[1]
    assert (checked["state"], checked["counts"]["found"]) == ("ready", {"prompts": 3})
    assert not Prompt.objects.exists()
    done = send("POST", f"{one}start/", {})[1]
    assert (done["state"], done["counts"]["made"]) == ("done", {"prompts": 3})
    assert send("POST", f"{one}start/", {})[0] == 409
    assert send("POST", f"{one}cancel/")[0] == 409
    assert send("POST", f"{one}withdraw/") == (200, {"comparisons": 0, "prompts": 3})
    assert TrailEntry.objects.get(verb="imported").details["token"] == "a test"
    refused = upload(b'{"prompt": ""}')
    wrong = send("POST", f"imports/{refused.json()['id']}/work/")[1]
    assert (wrong["state"], wrong["errors"][0][0]) == ("refused", 1)
    assert upload(lines, format="exe").json()["field"] == "format"
    assert [found["state"] for found in send("GET", "imports/")[1]["results"]] == ["refused", "done"]


def test_an_unsure_encoding_must_be_sent_before_the_start(project, owner, caller, send):
    file = SimpleUploadedFile("rows.csv", "prompt,topic\nДа,x\n".encode("koi8-r"))
    made = caller(owner).client.post(f"{API}reviews/imports/", {"file": file}).json()
    one = f"imports/{made['id']}/"
    checked = send("POST", f"{one}work/")[1]
    assert (checked["state"], checked["options"]["encoding_unsure"]) == ("ready", True)
    status, answer = send("POST", f"{one}start/", {})
    assert (status, answer["field"]) == (400, "encoding")
    assert not Prompt.objects.exists()
    checked = send("PATCH", f"{one}options/", {"encoding": "koi8-r"})[1]
    assert (checked["state"], checked["options"]["encoding_unsure"]) == ("ready", False)
    assert send("POST", f"{one}start/", {})[1]["state"] == "done"
    assert Prompt.objects.get().text == "Да"


def test_a_file_is_mapped_and_read_as_chosen(project, owner, caller, send):
    script = caller(owner)

    def upload(name, content, **more):
        file = SimpleUploadedFile(name, content)
        return script.client.post(f"{API}reviews/imports/", {"file": file, **more})

    rows = "frage,x,y,wahl\nÄ?,a1,b1,L\n,a2,b2,R\n".encode("cp1252")
    made = upload("rows.csv", rows, encoding="cp1252").json()
    assert (made["state"], made["options"]["format"], made["options"]["encoding"]) == (
        "mapping",
        None,
        "cp1252",
    )
    assert made["options"]["columns"] == ["frage", "x", "y", "wahl"]
    one = f"imports/{made['id']}/"
    columns = {"prompt": "frage", "completion_a": "x", "completion_b": "y", "verdict": "wahl"}
    mapping = {"columns": columns, "meanings": {"L": "a", "R": "b"}}
    for body, field in (
        ({}, "mapping"),
        ({"mapping": {"columns": {"prompt": "z"}}}, "mapping.columns.prompt"),
        ({"mapping": {"columns": {"colour": "x"}}}, "mapping.columns.colour"),
        ({"mapping": {"columns": {"prompt": "x", "completion_a": "y"}}}, "mapping"),
        ({"mapping": {"columns": columns, "meanings": {"L": "left"}}}, "mapping.meanings.L"),
        ({"mapping": {"columns": {"prompt": "x"}}, "becomes": "judged"}, "becomes"),
        ({"mapping": mapping, "becomes": "guess"}, "becomes"),
        ({"mapping": mapping, "encoding": "cp1250"}, "encoding"),
        ({"encoding": "klingon"}, "encoding"),
        ({"pairs": "some"}, "pairs"),
    ):
        status, answer = send("PATCH", f"{one}options/", body)
        assert (status, answer["field"]) == (400, field), (body, answer)
    status, checked = send("PATCH", f"{one}options/", {"mapping": mapping, "becomes": "comparisons"})
    assert (status, checked["state"], checked["options"]["mapping"]) == (200, "ready", mapping)
    assert (checked["options"]["becomes"], checked["counts"]["found"]) == ("comparisons", {"pairs": 1})
    judged = send("PATCH", f"{one}options/", {"becomes": "judged"})[1]
    assert (judged["options"]["mapping"], judged["counts"]["found"]) == (mapping, {"judged": 1})
    refused = script.get(f"reviews/{one}refused/")
    [line] = b"".join(refused.streaming_content).splitlines()
    assert (json.loads(line)["line"], json.loads(line)["record"]) == (3, {"x": "a2", "y": "b2", "wahl": "R"})
    other = send("PATCH", f"{one}options/", {"encoding": "mac-roman"})[1]
    assert (other["state"], other["options"]["encoding"]) == ("mapping", "mac-roman")
    assert send("PATCH", f"{one}options/", {"mapping": mapping})[1]["state"] == "ready"
    assert send("POST", f"{one}start/", {})[1]["state"] == "done"
    assert Judgment.objects.count() == 1
    assert send("PATCH", f"{one}options/", {"empty": True})[0] == 409
    assert upload("rows.csv", rows, encoding="latin-1").json()["options"]["encoding"] == "iso8859-1"
    for wrong in ("klingon", "punycode", "a\0b"):
        assert upload("rows.csv", rows, encoding=wrong).json()["field"] == "encoding"
    status, answer = send("POST", "imports/fetch/", {"address": "https://example.org/rows.csv"})
    assert (status, answer["field"]) == (400, "address")


def test_a_file_is_prepared_watched_and_downloaded(judged, caller, researcher):
    script, jobs = caller(researcher), "reviews/export/jobs/"

    def prepare(query, **headers):
        return script.client.post(f"{API}{jobs}?{query}", content_type="application/json", headers=headers)

    once = {"Idempotency-Key": "e-1"}
    made = prepare("format=csv&annotator=toni", **once)
    assert (made.status_code, made.json()["state"]) == (201, "queued")
    assert made.json()["query"]["annotator"] == ["toni"]
    assert prepare("format=csv&annotator=toni", **once).json()["id"] == made.json()["id"]
    assert prepare("format=exe").json()["field"] == "format"
    assert prepare("columns=texts&format=judgments").json()["field"] == "columns"
    one = f"{jobs}{made.json()['id']}/"
    assert script.get(f"{one}file/").status_code == 404
    write_export(made.json()["id"])
    done = script.get(one).json()
    assert (done["state"], done["rows"], done["can_be_downloaded"]) == ("done", 2, True)
    file = script.get(f"{one}file/")
    assert hashlib.sha256(b"".join(file.streaming_content)).hexdigest() == done["sha256"]
    same = script.client.get(f"{API}{one}file/", headers={"If-None-Match": file["ETag"]})
    assert same.status_code == 304
    assert script.post(f"{one}cancel/").status_code == 409
    second = script.post(jobs).json()
    assert script.post(f"{jobs}{second['id']}/cancel/").json()["state"] == "cancelled"
    page = script.get(jobs, page_size=1).json()
    assert [one["id"] for one in page["results"]] == [second["id"]]
    page = script.client.get(page["next"]).json()
    assert ([one["id"] for one in page["results"]], page["next"]) == ([done["id"]], None)
    assert script.get(jobs, cursor=b64encode(b"p=2026-02-31+00:00").decode()).json()["field"] == "cursor"
    for _number in range(LIVE_AT_MOST):
        script.post(jobs)
    assert script.post(jobs).status_code == 409


def test_an_upload_with_a_key_is_stored_once(project, owner, caller):
    script, answers = caller(owner), []
    for content in (b'{"prompt": "x"}', b'{"prompt": "x"}', b'{"prompt": "y"}'):
        file = SimpleUploadedFile("films.jsonl", content)
        answers.append(
            script.client.post(f"{API}reviews/imports/", {"file": file}, headers={"Idempotency-Key": "u-1"})
        )
    assert [one.status_code for one in answers] == [201, 201, 422]
    assert Import.objects.count() == 1


def test_a_large_file_is_for_admins_alone(project, owner, teammate, caller):
    large = b'{"prompt": "x"}\n' * 200_000  # 3.2 MB
    statuses = [
        caller(person)
        .client.post(f"{API}reviews/imports/", {"file": SimpleUploadedFile("large.jsonl", large)})
        .status_code
        for person in (owner, teammate)
    ]
    assert statuses == [201, 403]


def test_quality_and_agreement_say_the_same_as_the_page(project, three, make_comparisons, send):
    for comparison in make_comparisons(4, needed=3):
        for person in three:
            say(person, comparison, "first")
    _status, quality = send("GET", "quality/")
    assert quality["judgments"] == 12
    assert {one["username"] for one in quality["people"]} == {"anna", "bela", "cleo"}
    _status, agreement = send("GET", "agreement/")
    assert (agreement["pairwise"]["share"], len(agreement["kappas"])) == (1.0, 3)
    assert agreement["kappas"][0]["annotators"][0].startswith("annotator-")


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "choice"),
    [
        ("GET", "export/?format=trl", None, "format", "jsonl"),
        ("GET", "pairs/?votes=mine", None, "votes", "reliability"),
        ("GET", "comparisons/?state=odd", None, "state", "set_aside"),
        ("PATCH", "settings/", {"gold_feedback": "loud"}, "gold_feedback", "silent"),
        ("POST", "invitations/", {"person": "otto", "role": "boss"}, "role", "researcher"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_known_ones(project, send, method, path, body, field, choice):
    status, answer = send(method, path, body)
    assert (status, answer["field"]) == (400, field)
    assert f" {choice}" in answer["error"]
