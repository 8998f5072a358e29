"""Parts of every page: the navigation of a role, clean guidelines, one way to write dates."""

from datetime import UTC, datetime
from typing import Any

from django.template import Context, Template

from annotate.models import Membership
from annotate.templatetags.whetstone import navigation


def test_researchers_are_offered_nothing_that_the_desk_refuses(
    client_for: Any, researcher: Any, teammate: Any
) -> None:
    look = client_for(researcher).get("/p/reviews/guidelines/").content.decode()
    desk = client_for(teammate).get("/p/reviews/guidelines/").content.decode()
    for offered in ("My judgments", "My work", "Keyboard"):
        assert offered not in look
        assert offered in desk


def test_the_navigation_shows_what_a_role_may_open(
    project: Any, teammate: Any, owner: Any, researcher: Any
) -> None:
    def shown(person: Any) -> list[str]:
        membership = Membership.objects.get(project=project, user=person)
        items = navigation({"project": project, "membership": membership, "section": "judge"})  # type: ignore[arg-type]
        return [item.label for item in items]

    assert shown(teammate) == ["Judge", "My judgments", "My work"]
    assert shown(owner)[0] == "Judge"
    assert {"Members", "Settings"} <= set(shown(owner))
    assert not {"Judge", "Members", "Settings"} & set(shown(researcher))


def test_guidelines_are_rendered_and_cleaned(client_for: Any, teammate: Any, project: Any) -> None:
    project.guidelines = "Prefer **truth**. <script>alert(1)</script>"
    project.save()
    html = client_for(teammate).get("/p/reviews/guidelines/").content.decode()
    assert "<strong>truth</strong>" in html
    assert "<script>alert" not in html


def test_signing_in_returns_to_where_one_was(client_for: Any, teammate: Any) -> None:
    client = client_for()
    page = client.get("/login/?next=/p/reviews/judge/").content.decode()
    assert "Your judgments and drafts at the desk are kept in this browser." in page
    credentials = {"username": "toni", "password": "password", "next": "/p/reviews/judge/"}
    assert client.post("/login/", credentials).url == "/p/reviews/judge/"


def test_dates_are_written_one_way_everywhere() -> None:
    at = datetime(2026, 11, 26, 0, 52, tzinfo=UTC)
    bare, named, short = (
        "{{ at }}",
        "{{ at|date:'DATETIME_FORMAT' }}",
        "{{ at|date:'SHORT_DATETIME_FORMAT' }}",
    )
    for way in (bare, named, short):
        assert Template(way).render(Context({"at": at})) == "26 Nov 2026, 00:52"
    for day in ("{{ at|date }}", "{{ at|date:'SHORT_DATE_FORMAT' }}"):
        assert Template(day).render(Context({"at": at})) == "26 Nov 2026"
