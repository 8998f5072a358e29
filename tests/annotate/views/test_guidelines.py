"""Guidelines before judging: each member sees each wording once, and nothing is handed out before."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotate.models import Claim, Judgment, Membership
from annotate.people import reading
from annotate.projects.lifecycle import archive
from tests.annotate.desk import FRAGMENT, on_screen, url

pytestmark = pytest.mark.once  # forms and pages, whatever the database

BEFORE = "Before you judge: the guidelines"
CHANGED = "The guidelines have changed"


@pytest.fixture
def write(project: Any) -> Any:
    """write(text): the project's guidelines, and the version of that wording."""

    def write(text: str) -> str:
        project.guidelines = text
        project.save()
        return reading.version_of(text)

    return write


@pytest.fixture
def desk(client_for: Any, teammate: Any, make_comparisons: Any) -> Client:
    make_comparisons(6)
    return client_for(teammate)


def test_no_guidelines_lead_to_judging_in_an_archived_project(desk: Client, write: Any, project: Any) -> None:
    write("Prefer **truth**.")
    archive(project)
    html = desk.get(url("judge")).content.decode()
    assert BEFORE not in html
    assert "This project is archived" in html


def test_guidelines_come_before_the_first_comparison(desk: Client, write: Any) -> None:
    version = write("Prefer **truth**.")
    html = desk.get(url("judge")).content.decode()
    assert BEFORE in html
    assert "<strong>truth</strong>" in html
    assert not Claim.objects.exists()
    assert desk.post(url("ahead"), headers=FRAGMENT).content.decode().count("data-token") == 0
    answer = desk.post(url("guidelines"), {"version": version}, follow=True)
    assert answer.redirect_chain == [(url("judge"), 302)]
    assert BEFORE not in answer.content.decode()
    assert on_screen(desk)["token"]
    assert BEFORE not in desk.get(url("judge")).content.decode()


def test_a_project_without_guidelines_shows_none(desk: Client, write: Any) -> None:
    write("  \n")
    assert on_screen(desk)["token"]


def test_changed_guidelines_come_after_what_is_on_screen(desk: Client, write: Any) -> None:
    desk.post(url("guidelines"), {"version": write("First.")})
    first = on_screen(desk)
    desk.post(url("ahead"), headers=FRAGMENT)
    ahead = Claim.objects.get(state="next")
    write("Second.")
    fields = {**first, "verdict": "tie", "shown": str(ahead.token)}
    answer = desk.post(url("judge"), fields, headers=FRAGMENT).content.decode()
    assert "data-token" not in answer  # what was fetched ahead is on screen, and nothing follows it
    assert CHANGED not in answer
    fields = {"token": str(ahead.token), "verdict": "tie"}
    answer = desk.post(url("judge"), fields, headers=FRAGMENT).content.decode()
    assert CHANGED in answer
    assert "Second." in answer
    assert Judgment.objects.count() == 2


def test_an_older_wording_is_not_taken_for_the_present_one(desk: Client, write: Any, teammate: Any) -> None:
    old = write("First.")
    write("Second.")
    for version in (old, "", "x" * 200):
        desk.post(url("guidelines"), {"version": version})
        assert Membership.objects.get(user=teammate).guidelines_read == ""
    assert "Second." in desk.get(url("judge")).content.decode()


def test_who_writes_guidelines_has_read_them(owner: Any, client_for: Any, make_comparisons: Any) -> None:
    make_comparisons(1)
    admin = client_for(owner)
    settings = admin.get(url("settings")).context["form"]
    data = {name: settings[name].value() for name in settings.fields if settings[name].value() is not None}
    data |= {
        "guidelines": "Mine.",
        "reasons": "",
        "criteria": "",
        "training_settings": "{}",
        "sampling_settings": "{}",
    }
    assert admin.post(url("settings"), data).status_code == 302
    assert BEFORE not in admin.get(url("judge")).content.decode()


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 302), ("researcher", 302), ("teammate", 302), ("outsider", 404), (None, 302)],
)
def test_members_alone_say_that_they_have_read(
    request: pytest.FixtureRequest, write: Any, client_for: Any, who: str | None, status: int
) -> None:
    version = write("First.")
    user = request.getfixturevalue(who) if who else None
    answer = client_for(user).post(url("guidelines"), {"version": version})
    assert answer.status_code == status
    read = Membership.objects.filter(guidelines_read=version)
    assert [membership.user for membership in read] == (
        [user] if who in ("owner", "researcher", "teammate") else []
    )


def test_read_guidelines_cost_the_page_no_query(desk: Client, write: Any) -> None:
    on_screen(desk)
    with CaptureQueriesContext(
        connection,
    ) as without:
        desk.get(url("judge"))
    desk.post(url("guidelines"), {"version": write("First.")})
    with CaptureQueriesContext(connection) as with_guidelines:
        desk.get(url("judge"))
    assert len(with_guidelines) == len(without)
