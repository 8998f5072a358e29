"""The permission to look after members. A project keeps an admin and every judgment."""

import pytest
from django.urls import reverse

from annotate.models import Claim, Invitation, Judgment, Membership, Project, User
from tests.factories import TIE, judge

pytestmark = pytest.mark.once  # forms and pages, whatever the database

URL = "/p/reviews/members/"


def role_of(user):
    return Membership.objects.get(user=user).role


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)],
)
def test_only_admins_see_the_members(request, project, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(URL).status_code == status


@pytest.mark.parametrize("who", ["teammate", "researcher", "outsider"])
def test_nobody_else_changes_members(request, project, owner, client_for, who):
    client = client_for(request.getfixturevalue(who))
    mine = Membership.objects.get(user=owner)
    for path, data in [
        (URL, {"person": "otto", "role": "admin"}),
        (f"{URL}invite/", {"person": "otto", "role": "admin"}),
        (f"{URL}new/", {"username": "mallory", "role": "annotator"}),
        (f"{URL}{mine.pk}/", {"action": "remove"}),
    ]:
        assert client.post(path, data).status_code in (403, 404)
    assert role_of(owner) == "admin"
    assert not User.objects.filter(username="mallory").exists()
    assert not Invitation.objects.exists()


def test_a_member_is_not_added_twice(owner, teammate, client_for):
    answer = client_for(owner).post(URL, {"person": "toni", "role": "admin"})
    assert b"already a member" in answer.content
    assert role_of(teammate) == "annotator"


@pytest.mark.parametrize(("next", "said"), [("/", False), ("/p/reviews/", True)])
def test_only_who_was_on_a_page_is_told_to_go_on_there(db, client_for, next, said):
    page = client_for().get("/login/", {"next": next}).content.decode()
    assert ("pick up where you left off" in page) == said
    assert "Ask your project’s admin" in page


def test_the_only_admin_is_not_offered_to_leave(owner, teammate, client_for):
    offer = 'aria-label="Remove {}"'
    page = client_for(owner).get(URL).content.decode()
    assert "make another member an admin first" in page
    assert [offer.format(name) in page for name in (owner.username, teammate.username)] == [False, True]
    Membership.objects.filter(user=teammate).update(role="admin")
    page = client_for(owner).get(URL).content.decode()
    assert "make another member an admin first" not in page
    assert offer.format(owner.username) in page


@pytest.mark.parametrize("change", [{"action": "remove"}, {"action": "role", "role": "researcher"}])
def test_the_last_admin_stays(owner, client_for, change):
    membership = Membership.objects.get(user=owner)
    page = client_for(owner).post(f"{URL}{membership.pk}/", change, follow=True)
    assert b"the only admin" in page.content
    assert role_of(owner) == "admin"


def test_an_admin_may_leave_while_another_stays(owner, make_member, client_for):
    make_member("ada", "admin")
    membership = Membership.objects.get(user=owner)
    answer = client_for(owner).post(f"{URL}{membership.pk}/", {"action": "remove"})
    assert answer.url == reverse("home")
    assert not Membership.objects.filter(user=owner).exists()


def test_roles_change_and_unknown_roles_are_refused(owner, teammate, client_for):
    membership = Membership.objects.get(user=teammate)
    client = client_for(owner)
    client.post(f"{URL}{membership.pk}/", {"action": "role", "role": "researcher"})
    assert role_of(teammate) == "researcher"
    client.post(f"{URL}{membership.pk}/", {"action": "role", "role": "emperor"})
    assert role_of(teammate) == "researcher"


def test_removing_a_member_keeps_judgments_and_frees_claims(
    project, owner, teammate, make_comparisons, client_for
):
    from annotate.judgments import judging
    from annotate.queueing import queue

    make_comparisons(2)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    held = queue.claim(project, teammate)
    membership = Membership.objects.get(user=teammate)
    client_for(owner).post(f"{URL}{membership.pk}/", {"action": "remove"})
    assert Judgment.objects.filter(annotator=teammate).count() == 1
    held.refresh_from_db()
    assert held.state == Claim.State.RELEASED
    held.comparison.refresh_from_db()
    assert held.comparison.claimed == 0


def test_another_projects_member_cannot_be_changed(project, owner, make_member, client_for):
    other = Project.objects.create(slug="other", name="Other")
    stranger = make_member("sam", "annotator", in_project=other)
    membership = Membership.objects.get(user=stranger)
    for change in ({"action": "remove"}, {"action": "role", "role": "admin"}, {"action": "link"}):
        client_for(owner).post(f"{URL}{membership.pk}/", change)
    assert role_of(stranger) == "annotator"


def test_the_list_of_members_costs_the_same_for_any_number(
    project, owner, make_member, make_comparisons, client_for, django_assert_max_num_queries
):

    make_comparisons(3)
    toni = make_member("toni", "annotator")
    for _ in range(2):
        judge(project, toni)
    for number in range(15):
        make_member(f"person{number}", "annotator")
    client = client_for(owner)
    with django_assert_max_num_queries(8):
        page = client.get(URL)
    row = page.content.decode().split('<span dir="auto">toni')[1].split("</tr>")[0]
    assert '<td class="number" data-label="Judgments">2</td>' in row


def test_an_admin_lets_somebody_in_or_lets_them_try_again(project, owner, teammate, client_for):
    project.qualification_size = 5
    project.save()
    membership = Membership.objects.get(user=teammate)
    client = client_for(owner)
    assert b"not qualified yet" in client.get(URL).content
    client.post(f"{URL}{membership.pk}/", {"action": "again"})
    membership.refresh_from_db()
    assert membership.qualifies_from
    assert membership.qualified_at is None
    client.post(f"{URL}{membership.pk}/", {"action": "admit"})
    membership.refresh_from_db()
    assert membership.qualified_at
