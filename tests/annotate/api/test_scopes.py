"""A token opens no more than its scope, its project and its time."""

import json
import re
import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import ApiToken, Membership, Project, TrailEntry
from tests.annotate.api.caller import API, Caller

pytestmark = pytest.mark.once

VALUES = {
    "slug": "reviews",
    "token": str(uuid.uuid4()),
    "job_id": str(uuid.uuid4()),
    "merge_id": str(uuid.uuid4()),
    "digest": "0" * 64,
}


@pytest.fixture
def token_for():
    return lambda user, *scope, **limits: Caller(ApiToken.issue(user, "a test", *scope, **limits)[1])


def operations():
    from annotate.api.operations.pages import schema_file

    for path, methods in json.loads(schema_file("json", "en"))["paths"].items():
        address = re.sub(r"\{(\w+)\}", lambda match: VALUES.get(match[1], "1"), path)
        for method, described in methods.items():
            yield method, address, described["x-scope"]


def test_the_scope_is_asked_before_the_role(project, outsider, token_for):
    order = ApiToken.Scope.values
    tried = 0
    for scope in order:
        script = token_for(outsider, scope)
        for method, address, needed in operations():
            answer = script.client.generic(method.upper(), address, "{}", content_type="application/json")
            is_refused = answer.status_code == 403 and f"“{needed}”" in answer.json()["error"]
            assert is_refused == (order.index(scope) < order.index(needed)), (scope, method, address)
            tried += 1
    assert tried > 200


def test_an_old_token_may_do_what_its_owner_may(project, owner, token_for):
    script = token_for(owner)
    assert ApiToken.objects.get().scope == "admin"
    assert script.post("reviews/prompts/", {"prompts": [{"prompt": "x"}]}).status_code == 201


def test_a_token_of_one_project_opens_no_other(project, owner, token_for):
    other = Project.objects.create(slug="other", name="Other")
    Membership.objects.create(project=other, user=owner, role="admin")
    script = token_for(owner, "admin", project=project)
    assert [one["slug"] for one in script.get().json()["projects"]] == ["reviews"]
    assert script.get("reviews/").status_code == 200
    for refused in (script.get("other/"), script.post("", {"name": "New"})):
        assert refused.status_code == 403
        assert "reviews" in refused.json()["error"]


def test_an_expired_token_opens_nothing(project, owner, token_for):
    soon, past = (timezone.now() + timedelta(days=days) for days in (1, -1))
    assert token_for(owner, "read", expires_at=soon).get("reviews/").status_code == 200
    refused = token_for(owner, "read", expires_at=past).get("reviews/")
    assert refused.status_code == 401
    assert "expired" in refused.json()["error"]


def test_a_browsers_session_has_every_scope(project, owner):
    client = Client()
    client.force_login(owner)
    body = json.dumps({"prompts": [{"prompt": "x"}]})
    assert client.post(f"{API}reviews/prompts/", body, content_type="application/json").status_code == 201


def test_the_page_makes_a_token_as_narrow_as_asked(project, owner, client_for):
    other = Project.objects.create(slug="theirs", name="Theirs")
    client = client_for(owner)
    asked = {"name": "nightly", "scope": "judge", "project": "reviews", "expires": "30"}
    page = client.post("/tokens/", asked).content.decode()
    row = ApiToken.objects.get()
    assert (row.scope, row.project) == ("judge", project)
    assert timedelta(days=29) < row.expires_at - timezone.now() < timedelta(days=31)
    assert "Read and judge" in page
    assert "Film reviews" in page
    entry = TrailEntry.objects.get(verb="token_made")
    assert (entry.details["scope"], entry.details["only_in"]) == ("judge", "reviews")
    for wrong in ({"scope": "all"}, {"project": other.slug}, {"expires": "-5"}):
        assert client.post("/tokens/", asked | wrong).status_code == 422
    assert ApiToken.objects.count() == 1
