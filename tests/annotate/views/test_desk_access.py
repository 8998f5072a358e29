"""Permissions at the desk and for own judgments, and what no user may learn there."""

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.judgments import judging
from annotate.models import Claim, Flag, Judgment, Membership, Policy, Project
from annotate.queueing import queue
from tests.annotate.desk import FRAGMENT, on_screen, url
from tests.factories import TIE

pytestmark = pytest.mark.once  # forms and pages, whatever the database

PAGES = ["judge", "history", "me", "guidelines"]
ACTIONS = ["judge", "ahead", "undo", "redo", "draft", "renew", "leave", "flag"]


@pytest.fixture
def of_toni(project: Any, teammate: Any, make_comparisons: Any) -> list[str]:
    """Return the addresses that an annotator's work adds to the pages: a judgment, and the texts of a claim."""
    make_comparisons(2)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judgment = judging.record(project, teammate, claim.token, TIE)
    live = queue.claim(project, teammate)
    assert live is not None
    texts = [url("texts", live.token), *(url("whole_text", live.token, part) for part in ("a", "prompt"))]
    return [url("judgment", judgment.pk), *texts]


@pytest.mark.parametrize("page", PAGES)
def test_annotators_and_admins_see_their_pages(
    page: str, client_for: Any, teammate: Any, owner: Any, make_comparisons: Any
) -> None:
    make_comparisons(2)
    for person in (teammate, owner):
        assert client_for(person).get(url(page)).status_code == 200


@pytest.mark.parametrize(
    ("who", "status"),
    [("teammate", 200), ("owner", 404), ("researcher", 403), ("outsider", 404), (None, 302)],
)
def test_what_one_person_was_handed_and_said_is_for_them_alone(
    request: Any, of_toni: list[str], client_for: Any, who: str | None, status: int
) -> None:
    client = client_for(request.getfixturevalue(who) if who else None)
    assert [client.get(address).status_code for address in of_toni] == [status] * len(of_toni)


@pytest.mark.parametrize("page", ["judge", "history", "me"])
def test_a_researcher_has_no_desk_and_no_judgments(page: str, client_for: Any, researcher: Any) -> None:
    assert client_for(researcher).get(url(page)).status_code == 403


@pytest.mark.parametrize("page", PAGES)
def test_a_project_does_not_exist_for_outsiders(
    page: str, client_for: Any, project: Any, outsider: Any
) -> None:
    assert client_for(outsider).get(url(page)).status_code == 404


@pytest.mark.parametrize("page", [*PAGES, "home", "keys"])
def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(page: str, client_for: Any, project: Any) -> None:
    address = reverse(page) if page in ("home", "keys") else url(page)
    assert client_for().get(address).url == f"/login/?next={address}"


def test_the_sign_in_page_promises_only_what_the_desk_keeps(client_for: Any, project: Any) -> None:
    for address, promises in ((url("judge"), True), (url("history"), False), (reverse("keys"), False)):
        page = client_for().get("/login/", {"next": address}).content.decode()
        assert "Sign in to pick up where you left off." in page
        assert ("are kept in this browser" in page) == promises


@pytest.mark.parametrize("action", ACTIONS)
def test_only_who_judges_may_act(
    action: str, client_for: Any, project: Any, researcher: Any, outsider: Any
) -> None:
    assert client_for(researcher).post(url(action)).status_code == 403
    assert client_for(outsider).post(url(action)).status_code == 404
    assert client_for().post(url(action)).url.startswith("/login/")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_script_whose_sign_in_has_run_out_is_told_where_to_go(
    action: str, client_for: Any, project: Any
) -> None:
    headers = {**FRAGMENT, "HX-Current-URL": f"http://testserver{url('judge')}"}
    response = client_for().post(url(action), headers=headers)
    assert response.headers["HX-Redirect"] == f"/login/?next={url('judge')}"


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_needs_the_form_token(action: str, client_for: Any, teammate: Any) -> None:
    client = client_for(teammate, enforce_csrf_checks=True)
    response = client.post(url(action), {"token": uuid.uuid4()})
    assert response.status_code == 403
    assert "Nothing was changed" in response.content.decode()


# --- Another person in the same browser ------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_page_of_another_user_does_nothing_under_this_name(
    desk: Client, owner: Any, action: str, headers: dict[str, str]
) -> None:
    fields = on_screen(desk)
    before = list(Claim.objects.values())
    response = desk.post(url(action), {**fields, "person": owner.pk, "verdict": "a2"}, headers=headers)
    assert response.status_code == 409
    assert "toni is signed in now" in response.content.decode()
    assert ("<html" in response.content.decode()) == (not headers)
    assert list(Claim.objects.values()) == before
    assert not Judgment.objects.exists()
    assert not Flag.objects.exists()


def test_a_page_of_another_user_is_handed_nothing_of_this_one(
    desk: Client, owner: Any, teammate: Any
) -> None:
    response = desk.get(url("judge"), {"person": owner.pk}, headers=FRAGMENT)
    assert response.headers["HX-Refresh"] == "true"
    assert not Claim.objects.exists()
    assert desk.get(url("judge"), {"person": teammate.pk}, headers=FRAGMENT).status_code == 200


def test_every_form_of_the_desk_says_whose_page_it_is(desk: Client, teammate: Any) -> None:
    page = desk.get(url("judge")).content.decode()
    assert f'<input type="hidden" name="person" value="{teammate.pk}">' in page


# --- Another project -------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(teammate: Any, make_comparisons: Any) -> Claim:
    """Return the claim of a former member."""
    other = Project.objects.create(slug="other", name="Other", ask_rationale=True)
    policy = Policy.objects.create(project=other, name="p", kind="external")
    membership = Membership.objects.create(project=other, user=teammate, role="annotator")
    make_comparisons(1, in_project=other, policy=policy)
    claim = queue.claim(other, teammate)
    assert claim is not None
    membership.delete()
    return claim


@pytest.mark.parametrize(("action", "status"), [("draft", 410), ("renew", 410), ("flag", 422)])
def test_a_claim_of_another_project_is_left_alone(
    desk: Client, elsewhere: Claim, action: str, status: int
) -> None:
    before = Claim.objects.values().get(pk=elsewhere.pk)
    response = desk.post(url(action), {"token": elsewhere.token, "rationale": "x"}, headers=FRAGMENT)
    assert response.status_code == status
    assert Claim.objects.values().get(pk=elsewhere.pk) == before
    assert not Flag.objects.exists()


# --- Blindness -------------------------------------------------------------------------------------------------------


def test_nothing_that_an_annotator_sees_names_a_policy(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any
) -> None:
    project.current_policy.name = "the-secret-policy"
    project.current_policy.base_model = "the-secret-model"
    project.current_policy.save()
    project.gold_feedback = "shown"
    project.save()
    make_comparisons(4)
    client = client_for(teammate)
    answers = [client.get(url("judge"))]
    answers.append(client.post(url("judge"), {**on_screen(client), "verdict": "a2"}, headers=FRAGMENT))
    answers.append(client.post(url("judge"), {**on_screen(client), "verdict": "tie"}))
    token, judgment = on_screen(client)["token"], Judgment.objects.earliest("pk")
    for view in ("rendered", "raw", "differences"):
        answers.append(client.get(url("texts", token), {"view": view}, headers=FRAGMENT))
        answers.append(client.get(url("judgment", judgment.pk), {"view": view}))
    answers += [client.get(url("whole_text", token, part)) for part in ("a", "b", "prompt")]
    answers += [client.get(url(page)) for page in ("history", "me", "guidelines", "project")]
    answers += [client.post(url(action), headers=FRAGMENT) for action in ("ahead", "undo", "redo")]
    for answer in answers:
        assert answer.status_code in (200, 302)
        assert b"the-secret" not in answer.content, answer.request["PATH_INFO"]
