"""Bad input to the desk, by accident or on purpose: refused in a sentence, nothing stored."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import Aspect, Claim, Judgment, Membership, Policy, Project
from annotate.queueing import queue
from tests.annotate.desk import FRAGMENT, on_screen, url

pytestmark = pytest.mark.once  # forms and pages, whatever the database


def refused(response: Any) -> bool:
    return response.status_code == 422 and not Judgment.objects.exists()


@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "a9"},
        {"verdict": ""},
        {"verdict": "prefer"},
        {"verdict": "c2"},
        {"token": "not-a-token", "verdict": "tie"},
        {"token": str(uuid.uuid4()), "verdict": "tie"},
        {"token": "", "verdict": "tie"},
    ],
)
def test_a_verdict_that_cannot_be_is_refused_with_a_sentence(
    desk: Client, change: dict[str, str], headers: dict[str, str]
) -> None:
    response = desk.post(url("judge"), {**on_screen(desk), **change}, headers=headers)
    assert refused(response)
    assert re.search(
        r'data-word="error">\w+|class="notice error desk-error" role="alert">\w+', response.content.decode()
    )


def test_a_verdict_for_a_colleagues_claim_is_refused(
    desk: Client, client_for: Any, make_member: Any, make_comparisons: Any
) -> None:
    theirs = on_screen(client_for(make_member("carl", "annotator")))
    assert refused(desk.post(url("judge"), {**theirs, "verdict": "a2"}))


def test_a_claim_of_another_project_is_refused(desk: Client, teammate: Any, make_comparisons: Any) -> None:
    other = Project.objects.create(slug="other", name="Other")
    policy = Policy.objects.create(project=other, name="p", kind="external")
    Membership.objects.create(project=other, user=teammate, role="annotator")
    make_comparisons(1, in_project=other, policy=policy)
    claim = queue.claim(other, teammate)
    assert claim is not None
    fields = {"token": str(claim.token), "left": claim.left_id, "right": claim.right_id}
    assert refused(desk.post(url("judge"), {**fields, "verdict": "a2"}))
    assert desk.get(url("texts", claim.token), headers=FRAGMENT).status_code == 404


def test_an_oversized_rationale_is_refused_and_stays_in_place(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    response = desk.post(url("judge"), {**on_screen(desk), "verdict": "a2", "rationale": "y" * 10_001})
    assert refused(response)
    assert "y" * 10_001 in response.content.decode()


def ask(project: Any, *criteria: str, removed: str = "") -> None:
    project.criteria = [Aspect(key, key.title(), key == removed).stored() for key in criteria]
    project.save()


@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
def test_what_was_removed_meanwhile_is_accepted_and_kept(
    desk: Client, project: Any, headers: dict[str, str]
) -> None:
    project.reasons = [Aspect("truer", "Truer").stored()]
    ask(project, "helpful", "honest")
    fields = on_screen(desk)
    project.reasons = [Aspect("truer", "Truer", is_removed=True).stored()]
    ask(project, "honest", "helpful", removed="helpful")
    said = {"criterion-helpful": "a3", "criterion-honest": "b1", "reasons": "truer"}
    desk.post(url("judge"), {**fields, "verdict": "b2", **said}, headers=headers)
    judgment = Judgment.objects.get()
    assert (judgment.criteria.keys(), judgment.reasons) == ({"helpful", "honest"}, ["truer"])


@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
def test_an_unknown_criterion_is_not_stored_as_another(
    desk: Client, project: Any, headers: dict[str, str]
) -> None:
    project.ask_rationale = True
    ask(project, "helpful", "honest")
    said = {"criterion-warm": "a3", "criterion-honest": "b1", "rationale": "It names the film."}
    response = desk.post(url("judge"), {**on_screen(desk), "verdict": "b2", **said}, headers=headers)
    assert refused(response)
    html = response.content.decode()
    assert "This project does not know the criterion “warm”" in html
    # The verdict and all that has a place are in the form.
    assert 'data-was="b2"' in html
    assert "It names the film.</textarea>" in html
    assert re.search(r'name="criterion-honest" value="b1"[^>]* checked', html)


def test_a_criterion_keeps_its_verdict_when_its_place_changes(desk: Client, project: Any) -> None:
    ask(project, "helpful", "honest")
    fields = on_screen(desk)
    ask(project, "warm", "honest", "helpful")
    desk.post(url("judge"), {**fields, "verdict": "tie", "criterion-helpful": "tie"})
    assert Judgment.objects.get().criteria == {"helpful": {"verdict": "tie"}}


def test_invalid_utf8_does_no_harm(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    fields = on_screen(desk)
    body = b"&".join(f"{name}={value}".encode() for name, value in fields.items())
    desk.post(
        url("judge"),
        body + b"&verdict=tie&rationale=%ff%fe%00ok",
        content_type="application/x-www-form-urlencoded",
    )
    assert not Judgment.objects.exists()  # NUL is refused
    desk.post(
        url("judge"),
        body + b"&verdict=tie&rationale=%ff%feok",
        content_type="application/x-www-form-urlencoded",
    )
    assert Judgment.objects.get().rationale.endswith("ok")


def test_a_late_verdict_is_accepted_and_marked(desk: Client, teammate: Any) -> None:
    fields = on_screen(desk)
    Claim.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    queue.expire_claims()
    desk.post(url("judge"), {**fields, "verdict": "a2"})
    assert Judgment.objects.get().late
