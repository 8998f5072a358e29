"""The pages around the work: projects, keys, the theme, signing in, and what is said when something goes wrong."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.template import Context, Template
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from annotate.judgments import judging
from annotate.models import Membership, Project
from annotate.people import keyboard
from annotate.queueing import queue
from annotate.templatetags.whetstone import navigation
from annotate.views import errors


def test_home_lists_ones_own_projects(client_for: Any, teammate: Any, outsider: Any) -> None:
    Project.objects.create(slug="other", name="Somebody else’s")
    assert "Film reviews" in client_for(teammate).get("/").content.decode()
    assert "Somebody else’s" not in client_for(teammate).get("/").content.decode()
    assert "No project yet" in client_for(outsider).get("/").content.decode()


def test_a_card_says_what_is_left_and_what_the_round_waits_for(
    client_for: Any, project: Any, owner: Any, teammate: Any, researcher: Any, make_comparisons: Any
) -> None:
    make_comparisons(3)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judging.record(claim.token, teammate, judging.Verdict("tie"))
    round_ = project.rounds.create(
        number=1, state="training", trains=False, start_policy=project.current_policy, folder="runs/home"
    )

    def card(person: Any) -> str:
        return " ".join(client_for(person).get("/").content.decode().partition("<main")[2].split())

    assert "Annotator · 2 left" in card(teammate)
    assert "Round 1" not in card(teammate)
    assert "Round 1 is training" in card(owner)
    new = project.policies.create(name="round 1", kind="adapter", base_model="starter", adapter="a")
    snapshot = project.snapshots.create(digest="d", counts={})
    type(round_).objects.update(state="ready", trains=True, result_policy=new, snapshot=snapshot)
    assert "Round 1 waits for your decision" in card(owner)
    assert "Round 1 waits for a decision" in card(researcher)
    assert " left" not in card(researcher)


def test_home_asks_as_often_for_many_projects_as_for_one(
    client_for: Any, project: Any, owner: Any, django_assert_num_queries: Any
) -> None:
    client = client_for(owner)
    with CaptureQueriesContext(connection) as one:
        client.get("/")
    for number in range(5):
        other = Project.objects.create(slug=f"other-{number}", name=f"Other {number}")
        Membership.objects.create(project=other, user=owner, role="admin")
    with django_assert_num_queries(len(one)):
        client.get("/")


def test_researchers_are_offered_nothing_that_the_desk_refuses(
    client_for: Any, researcher: Any, teammate: Any
) -> None:
    look = client_for(researcher).get("/p/reviews/guidelines/").content.decode()
    desk = client_for(teammate).get("/p/reviews/guidelines/").content.decode()
    for offered in ("My judgments", "My work", "Keyboard"):
        assert offered not in look
        assert offered in desk


def test_a_project_begins_where_ones_role_works(client_for: Any, teammate: Any, researcher: Any) -> None:
    assert client_for(teammate).get("/p/reviews/").url == "/p/reviews/judge/"
    assert client_for(researcher).get("/p/reviews/").status_code == 200  # the project's front page


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


def test_the_theme_is_remembered_by_the_browser(client_for: Any, teammate: Any) -> None:
    client = client_for(teammate)
    assert 'data-theme="' not in client.get("/").content.decode().split("<head>")[0]
    response = client.post("/theme/", {"next": "/keys/"})
    assert response.url == "/keys/"
    assert 'data-theme="dark"' in client.get("/").content.decode()
    client.post("/theme/", {"next": "https://evil.example/"})
    assert 'data-theme="light"' in client.get("/").content.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_nobody_is_sent_to_another_site(client_for: Any, teammate: Any, target: str) -> None:
    assert client_for(teammate).post("/theme/", {"next": target}).url == "/"


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


# --- Keys -----------------------------------------------------------------------------------------------------------


def test_keys_can_be_chosen_and_reach_the_desk(client_for: Any, teammate: Any, make_comparisons: Any) -> None:
    make_comparisons(1)
    client = client_for(teammate)
    client.post("/keys/", {"a3": "q", "undo": "z", "skip": ""})
    teammate.refresh_from_db()
    chosen = keyboard.keys_of(teammate.preferences)
    assert (chosen["a3"], chosen["undo"], chosen["skip"], chosen["b3"]) == ("q", "z", "", "8")
    desk = client.get("/p/reviews/judge/").content.decode()
    assert 'value="a3" data-key="q"' in desk


def test_one_key_cannot_do_two_things(client_for: Any, teammate: Any) -> None:
    response = client_for(teammate).post("/keys/", {"a3": "8"})
    assert response.status_code == 422
    assert (
        "“8” is chosen twice: for “A is much better” and for “B is much better”." in response.content.decode()
    )
    teammate.refresh_from_db()
    assert teammate.preferences == {}


@pytest.mark.parametrize("key", ["ab", "Escape", "\x07", "F12"])
def test_what_is_not_a_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(keyboard.BadKeys, match="Undo"):
        keyboard.choose({"undo": key})


def test_capitals_mean_the_same_key() -> None:
    assert keyboard.choose({"undo": "Z"}) == {"undo": "z"}


def test_keys_can_be_turned_off_and_set_back(client_for: Any, teammate: Any, make_comparisons: Any) -> None:
    make_comparisons(1)
    client = client_for(teammate)
    client.post("/keys/", {"a3": "q", "off": "on"})
    assert 'value="a3" data-key=""' in client.get("/p/reviews/judge/").content.decode()
    client.post("/keys/", {"defaults": "1"})
    assert 'value="a3" data-key="1"' in client.get("/p/reviews/judge/").content.decode()


# --- Errors ---------------------------------------------------------------------------------------------------------


def broken(request: Any) -> None:
    raise RuntimeError("a secret detail")


class Broken:
    """The site with one view that fails."""

    from config.urls import handler400, handler403, handler404, handler500, urlpatterns

    urlpatterns = [*urlpatterns, path("broken/", broken)]


@override_settings(ROOT_URLCONF=Broken)
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_a_failure_says_what_was_kept_and_no_detail(db: None, headers: dict[str, str]) -> None:
    client = Client(raise_request_exception=False)
    response = client.get("/broken/", headers=headers)
    html = response.content.decode()
    assert response.status_code == 500
    assert "What was saved before is safe" in html
    assert "secret" not in html
    assert ("<html" in html) is not bool(headers)
    assert response.headers.get("HX-Retarget") == ("#notices" if headers else None)


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_a_missing_page_says_where_to_go(client_for: Any, teammate: Any, headers: dict[str, str]) -> None:
    response = client_for(teammate).get("/nowhere/", headers=headers)
    assert response.status_code == 404
    assert "Nothing was changed" in response.content.decode()
    assert response.headers.get("HX-Retarget") == ("#notices" if headers else None)


def test_a_page_that_is_refused_or_missing_keeps_the_navigation_of_ones_project(
    client_for: Any, teammate: Any, outsider: Any
) -> None:
    for address, status in (("/p/reviews/rounds/", 403), ("/p/reviews/history/99/", 404)):
        response = client_for(teammate).get(address)
        assert response.status_code == status
        assert 'class="navigation"' in response.content.decode()
    page = client_for(outsider).get("/p/reviews/rounds/").content.decode()
    assert 'class="navigation"' not in page
    assert "Film reviews" not in page


def test_too_large_a_form_is_refused_in_words(client_for: Any, teammate: Any) -> None:
    response = client_for(teammate).post("/keys/", {"a3": "x" * 3_000_000})
    assert response.status_code in (400, 413)
    assert "larger than this site takes" in response.content.decode()


def test_a_form_without_cookies_is_told_about_cookies() -> None:
    request = RequestFactory().post("/theme/")
    request.user = None  # type: ignore[assignment]
    assert "needs cookies" in errors.csrf_failure(request).content.decode()
