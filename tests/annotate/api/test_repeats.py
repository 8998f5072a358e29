"""A request with a key does its work once, and what never changes is not sent twice."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from annotate import tasks
from annotate.api.operations import repeats
from annotate.models import Comparison, Invitation, Project, Prompt, StoredAnswer, TrailEntry
from tests.annotate.api.caller import API

ROWS = {"prompts": [{"prompt": "A comedy opens:"}]}


@pytest.fixture
def post(owner, caller):
    script = caller(owner)

    def post(path, body, key="k-1"):
        return script.client.post(
            f"{API}{path}",
            json.dumps(body),
            content_type="application/json",
            headers={"Idempotency-Key": key},
        )

    return post


def test_a_repeated_request_is_answered_as_before(project, post):
    first, again = post("reviews/prompts/", ROWS), post("reviews/prompts/", ROWS)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.json()["made"]["prompts"] == 1
    assert (first.headers.get("Idempotency-Replayed"), again["Idempotency-Replayed"]) == (None, "true")
    assert TrailEntry.objects.filter(verb="imported").count() == 1
    assert post("reviews/prompts/", ROWS, key="k-2").json()["made"]["duplicates"] == 1


def test_another_request_with_the_same_key_is_refused(project, post):
    post("reviews/prompts/", ROWS)
    for path, body in (
        ("reviews/prompts/", {"prompts": [{"prompt": "Another:"}]}),
        ("reviews/comparisons/", ROWS),
    ):
        refused = post(path, body)
        assert (refused.status_code, refused.json()["field"]) == (422, "Idempotency-Key")
    assert Prompt.objects.count() == 1
    for key in ("", "x" * 201, "é", "a b"):
        assert post("reviews/prompts/", ROWS, key=key).status_code == 400


def test_the_order_of_fields_is_none_of_the_request(project, post):
    body = {"person": "rosa", "role": "annotator"}
    post("reviews/invitations/", body)
    again = post("reviews/invitations/", dict(reversed(body.items())))
    assert (again.status_code, again["Idempotency-Replayed"]) == (201, "true")


def test_a_refused_request_leaves_its_key_free(project, post):
    body = {"person": "rosa", "role": "boss"}
    assert post("reviews/invitations/", body).status_code == 400
    assert not StoredAnswer.objects.exists()
    assert post("reviews/invitations/", {**body, "role": "annotator"}).status_code == 201
    assert Invitation.objects.count() == 1


def test_a_key_is_its_users_own(project, owner, make_member, caller, post):
    post("reviews/prompts/", ROWS)
    second = caller(make_member("ada", "admin"))
    answer = second.client.post(
        f"{API}reviews/prompts/",
        json.dumps({"prompts": [{"prompt": "Hers:"}]}),
        content_type="application/json",
        headers={"Idempotency-Key": "k-1"},
    )
    assert answer.json()["made"]["prompts"] == 1


def test_an_answer_is_kept_for_a_day(project, post):
    post("reviews/prompts/", ROWS)
    StoredAnswer.objects.update(created_at=timezone.now() - StoredAnswer.KEPT)
    assert post("reviews/prompts/", ROWS).json()["made"]["duplicates"] == 1
    assert StoredAnswer.objects.count() == 1


def test_an_old_answer_is_not_given_however_many_are_old(project, post, monkeypatch):
    monkeypatch.setattr(repeats, "SWEPT_AT_A_TIME", 2)
    for number in range(5):
        post("reviews/prompts/", ROWS, key=f"k-{number}")
    StoredAnswer.objects.update(created_at=timezone.now() - StoredAnswer.KEPT)
    again = post("reviews/prompts/", ROWS, key="k-4")
    assert "Idempotency-Replayed" not in again.headers
    assert StoredAnswer.objects.count() == 3  # two of the other old ones left too


def test_answers_leave_after_a_day_without_another_request(project, post):
    """They may hold names and texts that were forgotten since."""
    post("reviews/prompts/", ROWS)
    tasks.sweep_exports()
    assert StoredAnswer.objects.count() == 1
    StoredAnswer.objects.update(created_at=timezone.now() - StoredAnswer.KEPT)
    tasks.sweep_exports()
    assert not StoredAnswer.objects.exists()


def test_a_lost_role_gets_no_stored_answer(project, owner, post):
    post("reviews/prompts/", ROWS)
    project.memberships.filter(user=owner).update(role="researcher")
    assert post("reviews/prompts/", ROWS).status_code == 403


def test_what_a_client_has_is_not_sent_again(judged, owner, caller):
    script = caller(owner)
    digest = script.post("reviews/snapshots/").json()["digest"]
    completion = Comparison.objects.first().first_id
    exported = TrailEntry.objects.filter(verb="snapshot_exported")
    for path in (f"snapshots/{digest}/", f"snapshots/{digest}/exact/", f"completions/{completion}/"):
        address = f"{API}reviews/{path}"
        etag = script.client.get(address)["ETag"]
        before = exported.count()
        for known in (etag, f'"x", W/{etag}', "*"):
            answer = script.client.get(address, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", etag)
            assert answer["Cache-Control"] == "private, no-cache"
        assert script.client.get(address, headers={"If-None-Match": '"x"'}).status_code == 200
        assert exported.count() - before == (1 if "exact" in path else 0)
    assert Project.objects.get().snapshots.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_does_the_work(project, post):
    def send(_number):
        try:
            return post("reviews/prompts/", ROWS)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert [one.status_code for one in answers] == [201] * 4
    assert {one.json()["made"]["prompts"] for one in answers} == {1}
    assert sorted(one.headers.get("Idempotency-Replayed", "") for one in answers) == ["", *["true"] * 3]
    assert TrailEntry.objects.filter(verb="imported").count() == 1
