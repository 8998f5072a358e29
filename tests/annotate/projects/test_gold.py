"""Making gold, correcting it and ending it: by page and by API, in the trail, and never in a judgment."""

import pytest
from django.test import Client

from annotate.models import ApiToken, Comparison, Judgment, TrailEntry
from annotate.queueing.qualification import find_gold_judgments
from annotate.reports.agreement import gold_accuracy
from tests.factories import say

URL = "/p/reviews/comparisons/"
API = "/api/v1/projects/reviews/comparisons/"


@pytest.fixture
def comparison(make_comparisons, teammate):
    """Return a standard comparison whose first completion was preferred."""
    [found] = make_comparisons(1)
    say(teammate, found, "first")
    return found


@pytest.fixture(params=["page", "api"])
def change(request, owner, client_for, comparison):
    """Return a function that sets the better completion, or none, as an admin does."""
    token = ApiToken.issue(owner, "script")[1]
    api, page = Client(headers={"Authorization": f"Bearer {token}"}), client_for(owner)

    def change(preferred):
        if request.param == "page":
            data = {"action": "gold", "preferred": preferred} if preferred else {"action": "standard"}
            return page.post(f"{URL}{comparison.pk}/change/", data, follow=True)
        address = f"{API}{comparison.pk}/gold/"
        if preferred is None:
            return api.delete(address)
        return api.put(address, {"preferred_id": preferred}, content_type="application/json")

    return change


def state(comparison):
    comparison.refresh_from_db()
    return comparison.kind, comparison.gold_preferred_id


def test_gold_is_made_corrected_and_ended(change, comparison, project, owner, teammate):
    before = list(Judgment.objects.values())
    assert change(comparison.second_id).status_code == 200
    assert state(comparison) == ("gold", comparison.second_id)
    assert gold_accuracy(project)[teammate.pk].count == 0
    change(comparison.first_id)
    assert state(comparison) == ("gold", comparison.first_id)
    assert gold_accuracy(project)[teammate.pk].count == 1
    change(None)
    assert state(comparison) == ("standard", None)
    assert not find_gold_judgments(project).exists()
    assert list(Judgment.objects.values()) == before
    told = TrailEntry.objects.filter(who=owner).order_by("pk")
    assert [(one.verb, one.target, one.details.get("before"), one.details.get("better")) for one in told] == [
        ("gold_made", f"#{comparison.pk}", None, "B"),
        ("gold_corrected", f"#{comparison.pk}", "B", "A"),
        ("gold_ended", f"#{comparison.pk}", "A", None),
    ]


def test_what_is_so_already_leaves_no_trail(change, comparison):
    change(comparison.first_id)
    assert change(comparison.first_id).status_code == 200
    assert TrailEntry.objects.count() == 1


def test_a_foreign_completion_makes_no_gold(change, comparison, make_comparisons):
    [other] = make_comparisons(1)
    answer = change(other.first_id)
    assert b"Choose which completion is the better one" in answer.content
    assert state(comparison) == ("standard", None)


def test_a_gate_comparison_is_no_gold(change, comparison):
    Comparison.objects.update(kind="gate")
    assert b"Only a standard comparison" in change(comparison.first_id).content
    assert state(comparison) == ("gate", None)


def test_the_page_asks_before_and_shows_who_did_it(owner, comparison, client_for):
    client = client_for(owner)
    page = client.get(f"{URL}{comparison.pk}/").content.decode()
    assert page.count("data-confirm") == 2
    client.post(f"{URL}{comparison.pk}/change/", {"action": "gold", "preferred": comparison.first_id})
    page = client.get(f"{URL}{comparison.pk}/").content.decode()
    assert page.count("data-confirm") == 2  # correct it, and end it
    assert "Correct it: B is better" in page
    assert "Made gold" in page


@pytest.mark.parametrize("who", ["researcher", "teammate", "outsider", None])
def test_only_admins_change_gold(request, comparison, client_for, who):
    client = client_for(request.getfixturevalue(who) if who else None)
    data = {"action": "gold", "preferred": comparison.first_id}
    assert client.post(f"{URL}{comparison.pk}/change/", data).status_code in (302, 403, 404)
    address, body = f"{API}{comparison.pk}/gold/", {"preferred_id": comparison.first_id}
    assert client.put(address, body, content_type="application/json").status_code in (401, 403, 404)
    assert client.delete(address).status_code in (401, 403, 404)
    assert state(comparison) == ("standard", None)


def test_another_projects_gold_is_not_found(comparison, make_member, make_user, client_for):
    from annotate.models import Project

    other = Project.objects.create(slug="other", name="Other")
    stranger = client_for(make_member("sam", "admin", in_project=other))
    address = f"/api/v1/projects/other/comparisons/{comparison.pk}/gold/"
    body = {"preferred_id": comparison.first_id}
    assert stranger.put(address, body, content_type="application/json").status_code == 404
    assert state(comparison) == ("standard", None)
