"""The API lets in who has a token, and each as far as their role goes."""

import hashlib
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import ApiToken, Membership
from annotate.queueing import queue
from annotate.views.account import MOST_TOKENS
from tests.annotate.api.caller import API, Caller

pytestmark = pytest.mark.once  # forms and pages, whatever the database

# --- Tokens ------------------------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_said(project, db):
    answer = Client().get(f"{API}reviews/")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer.json().keys() == {"error", "field"}


def test_a_token_is_shown_once_and_stored_as_a_digest(owner, client_for):
    client = client_for(owner)
    page = client.post("/tokens/", {"name": "nightly export"}, follow=True).content.decode()
    token = page.split('value="wst_')[1].split('"')[0]
    token = f"wst_{token}"
    assert Caller(token).get().json()["user"] == "olive"
    assert token not in client.get("/tokens/").content.decode()
    row = ApiToken.objects.get()
    assert token not in str(ApiToken.objects.values().get())
    assert row.digest == hashlib.sha256(token.encode()).hexdigest()
    assert row.last_used_at


def test_the_last_use_of_a_token_is_exact_to_a_minute(owner, caller):
    script, row = caller(owner), ApiToken.objects.get()
    for seconds, is_written in ((30, False), (90, True)):
        before = timezone.now() - timedelta(seconds=seconds)
        ApiToken.objects.update(last_used_at=before)
        script.get()
        row.refresh_from_db()
        assert (row.last_used_at != before) is is_written


def test_a_person_has_so_many_tokens_at_most(owner, client_for):
    for number in range(MOST_TOKENS):
        ApiToken.issue(owner, f"script {number}")
    assert client_for(owner).post("/tokens/", {"name": "one more"}).status_code == 422
    assert owner.api_tokens.count() == MOST_TOKENS


def test_a_revoked_token_opens_nothing(owner, client_for):
    row, token = ApiToken.issue(owner, "old")
    client_for(owner).post(f"/tokens/{row.pk}/revoke/")
    assert Caller(token).get().status_code == 401


def test_nobody_revokes_or_sees_anothers_token(owner, teammate, client_for):
    row, _token = ApiToken.issue(owner, "secret name")
    client = client_for(teammate)
    assert b"secret name" not in client.get("/tokens/").content
    client.post(f"/tokens/{row.pk}/revoke/")
    assert ApiToken.objects.filter(pk=row.pk).exists()


def test_a_closed_accounts_token_opens_nothing(owner, caller):
    script = caller(owner)
    owner.is_active = False
    owner.save()
    assert script.get().status_code == 401


def test_wrong_tokens_never_delay_a_good_one(project, owner, caller):
    for _ in range(40):
        refused = Caller("wst_guess").get()
        assert refused.status_code == 401
    assert refused.json().keys() == {"error", "field"}
    assert caller(owner).get().status_code == 200


def test_a_browsers_session_needs_the_csrf_token(project, owner):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    assert client.get(f"{API}reviews/").status_code == 200
    refused = client.post(f"{API}reviews/next/", "{}", content_type="application/json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["error"]


# --- Roles -------------------------------------------------------------------------------------------------------

READS = ["prompts/", "comparisons/", "pairs/", "snapshots/"]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    ("who", "status"), [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404)]
)
def test_who_reads_what(request, project, caller, path, who, status):
    answer = caller(request.getfixturevalue(who)).get(f"reviews/{path}")
    assert answer.status_code == status
    if status != 200:
        assert answer.json().keys() == {"error", "field"}


@pytest.mark.parametrize(
    ("path", "body", "allowed"),
    [
        ("prompts/", {"prompts": [{"prompt": "x"}]}, {"owner"}),
        (
            "comparisons/",
            {"comparisons": [{"prompt": "x", "completion_a": "a", "completion_b": "b"}]},
            {"owner"},
        ),
        ("next/", {}, {"owner", "teammate"}),
        ("judgments/", {"token": "0" * 32, "verdict": "tie"}, {"owner", "teammate"}),
        ("snapshots/", {}, {"owner", "researcher"}),
    ],
)
def test_who_writes_what(owner, teammate, researcher, outsider, caller, path, body, allowed):
    people = {"owner": owner, "teammate": teammate, "researcher": researcher}
    for name, person in people.items():
        status = caller(person).post(f"reviews/{path}", body).status_code
        assert (status == 403) == (name not in allowed), (name, status)
    assert caller(outsider).post(f"reviews/{path}", body).status_code == 404


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404), (None, 401)],
)
@pytest.mark.parametrize("below", ["", "pairs/", "exact/"])
def test_who_reads_one_snapshot(request, judged, researcher, caller, who, status, below):
    digest = caller(researcher).post("reviews/snapshots/").json()["digest"]
    someone = caller(request.getfixturevalue(who)) if who else Caller("wst_nobody")
    assert someone.get(f"reviews/snapshots/{digest}/{below}").status_code == status


@pytest.mark.parametrize(("who", "status"), [("researcher", 403), ("outsider", 404), (None, 401)])
@pytest.mark.parametrize("act", ["renew/", "release/"])
def test_who_cannot_have_a_claim_keeps_or_frees_none(
    request, project, teammate, make_comparisons, caller, who, status, act
):
    make_comparisons(1)
    token = caller(teammate).post("reviews/next/").json()["claim"]["token"]
    someone = caller(request.getfixturevalue(who)) if who else Caller("wst_nobody")
    assert someone.post(f"reviews/claims/{token}/{act}").status_code == status
    assert queue.renew(project, teammate, token)


@pytest.mark.parametrize(("who", "status"), [("outsider", 404), (None, 401)])
@pytest.mark.parametrize("path", ["", "judgments/", "prompts/", "comparisons/", "pairs/"])
def test_to_an_outsider_a_project_is_none(request, project, caller, who, status, path):
    someone = caller(request.getfixturevalue(who)) if who else Caller("wst_nobody")
    assert someone.get(f"reviews/{path}").status_code == status


def test_one_sees_ones_own_projects(project, teammate, outsider, caller):
    assert [one["slug"] for one in caller(teammate).get().json()["projects"]] == ["reviews"]
    assert caller(outsider).get().json()["projects"] == []


def test_the_same_permission_counts_after_a_role_changed(project, teammate, caller):
    script = caller(teammate)
    assert script.get("reviews/prompts/").status_code == 403
    Membership.objects.filter(user=teammate).update(role="researcher")
    assert script.get("reviews/prompts/").status_code == 200
