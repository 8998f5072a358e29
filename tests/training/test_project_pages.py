"""The list of a user's projects, and where each of them begins."""

from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.judgments import judging
from annotate.models import Membership, Project
from annotate.projects.lifecycle import archive
from annotate.queueing import queue
from tests.factories import TIE


def test_home_lists_ones_own_projects(client_for: Any, teammate: Any, outsider: Any) -> None:
    Project.objects.create(slug="other", name="Somebody else’s")
    assert "Film reviews" in client_for(teammate).get("/").content.decode()
    assert "Somebody else’s" not in client_for(teammate).get("/").content.decode()
    assert "No project yet" in client_for(outsider).get("/").content.decode()


def test_members_of_archived_projects_alone_are_told_so(client_for: Any, project: Any, teammate: Any) -> None:
    archive(project)
    page = client_for(teammate).get("/").content.decode()
    assert "Those that you are a member of are archived." in page
    assert "No project yet" not in page
    for name in ("history", "me"):
        page = client_for(teammate).get(f"/p/reviews/{name}/").content.decode()
        assert 'class="button primary" href="/p/reviews/judge/"' not in page


def test_a_card_says_what_is_left_and_what_the_round_waits_for(
    client_for: Any, project: Any, owner: Any, teammate: Any, researcher: Any, make_comparisons: Any
) -> None:
    make_comparisons(3)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judging.record(project, teammate, claim.token, TIE)
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


def test_a_project_begins_where_ones_role_works(client_for: Any, teammate: Any, researcher: Any) -> None:
    assert client_for(teammate).get("/p/reviews/").url == "/p/reviews/judge/"
    assert client_for(researcher).get("/p/reviews/").status_code == 200  # the project's front page
