"""Who may look after members, and that a project keeps an admin and every judgment."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.urls import reverse

from annotate.models import Claim, Judgment, Membership, Project, User

URL = "/p/reviews/members/"


@pytest.fixture(autouse=True)
def _no_failures_counted():
    cache.clear()


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
        (f"{URL}new/", {"username": "mallory", "role": "admin"}),
        (f"{URL}{mine.pk}/", {"action": "remove"}),
    ]:
        assert client.post(path, data).status_code in (403, 404)
    assert role_of(owner) == "admin"
    assert not User.objects.filter(username="mallory").exists()


def test_a_person_is_added_by_username_or_by_email(project, owner, outsider, make_user, client_for):
    mia = make_user("mia")
    mia.email = "mia@example.org"
    mia.save()
    client = client_for(owner)
    client.post(URL, {"person": "otto", "role": "researcher"})
    client.post(URL, {"person": "MIA@example.org", "role": "annotator"})
    assert role_of(outsider) == "researcher"
    assert role_of(mia) == "annotator"


def test_an_email_that_two_accounts_use_is_refused(project, owner, make_user, client_for):
    for name in ("mia", "max"):
        user = make_user(name)
        user.email = "team@example.org"
        user.save()
    answer = client_for(owner).post(URL, {"person": "team@example.org", "role": "annotator"})
    assert answer.status_code == 422
    assert b"give the username" in answer.content
    assert project.memberships.count() == 1


def test_a_member_is_not_added_twice(owner, teammate, client_for):
    answer = client_for(owner).post(URL, {"person": "toni", "role": "admin"})
    assert b"already a member" in answer.content
    assert role_of(teammate) == "annotator"


def test_a_new_account_gets_a_link_that_sets_a_password_once(project, owner, client_for):
    client = client_for(owner)
    offered = client.post(URL, {"person": "nora@example.org", "role": "annotator"})
    assert b'value="nora"' in offered.content  # the offer to make an account, filled in
    page = client.post(
        f"{URL}new/", {"username": "nora", "email": "nora@example.org", "role": "annotator"}, follow=True
    )
    link = re.search(rb'value="http://testserver(/set-password/[^"]+)"', page.content)[1].decode()
    assert link.encode() not in client.get(URL).content  # shown once

    visitor = client_for()
    form = visitor.get(link, follow=True)
    chosen = {"new_password1": "a long phrase of hers", "new_password2": "a long phrase of hers"}
    page = visitor.post(form.request["PATH_INFO"], chosen, follow=True)
    assert page.request["PATH_INFO"] == "/"
    assert page.context["user"].username == "nora"
    assert b"you are signed in" in page.content
    assert client_for().login(username="nora", password="a long phrase of hers")
    again = client_for().get(link, follow=True)
    assert b"does not work any more" in again.content


def link_for(client, person, project):
    """The password link that this admin gets for a member of the project, or None."""
    membership = Membership.objects.get(user=person, project=project)
    page = client.post(f"/p/{project.slug}/members/{membership.pk}/", {"action": "link"}, follow=True)
    found = re.search(rb'value="http://testserver(/set-password/[^"]+)"', page.content)
    assert (found is None) == (b"You cannot make a password link" in page.content)
    return found and found[1].decode()


def choose(client, link, password):
    form = client.get(link, follow=True)
    return client.post(
        form.request["PATH_INFO"], {"new_password1": password, "new_password2": password}, follow=True
    )


def test_a_member_who_forgot_the_password_gets_a_link_and_is_signed_out_elsewhere(
    project, owner, teammate, client_for
):
    elsewhere = client_for(teammate)
    link = link_for(client_for(owner), teammate, project)
    choose(client_for(), link, "a long phrase of hers")
    assert client_for().login(username="toni", password="a long phrase of hers")
    assert elsewhere.get("/p/reviews/").status_code == 302
    assert b"does not work any more" in client_for().get(link, follow=True).content


@pytest.fixture
def other(db):
    return Project.objects.create(slug="other", name="Other")


@pytest.mark.parametrize("role", ["annotator", "researcher", "admin"])
def test_an_admin_gets_no_link_to_an_account_that_opens_another_project(
    project, owner, teammate, other, client_for, role
):
    """Or an admin of one project could take over anybody's account by adding them."""
    other.memberships.create(user=teammate, role=role)
    other.memberships.create(user=owner, role="researcher")
    assert link_for(client_for(owner), teammate, project) is None
    assert f"Password link for {teammate}" not in client_for(owner).get(URL).content.decode()


def test_an_admin_of_both_projects_gets_a_link(project, owner, teammate, other, client_for):
    other.memberships.create(user=teammate, role="annotator")
    other.memberships.create(user=owner, role="admin")
    assert link_for(client_for(owner), teammate, project)


def test_a_link_dies_when_its_account_joins_another_project(project, owner, teammate, other, client_for):
    link = link_for(client_for(owner), teammate, project)
    other.memberships.create(user=teammate, role="annotator")
    assert b"does not work any more" in client_for().get(link, follow=True).content


@pytest.mark.parametrize("more", ["is_staff", "is_superuser", "permission", "closed", "own"])
def test_no_link_opens_the_sites_administration_a_closed_account_or_ones_own(
    project, owner, teammate, client_for, more
):
    person = owner if more == "own" else teammate
    if more == "permission":
        person.user_permissions.add(Permission.objects.get(codename="add_project"))
    elif more == "closed":
        person.is_active = False
    elif more != "own":
        setattr(person, more, True)
    person.save()
    assert link_for(client_for(owner), person, project) is None


@pytest.mark.parametrize("who", ["teammate", "researcher", "outsider", None])
def test_nobody_but_an_admin_makes_a_link(request, project, owner, make_member, client_for, who):
    person = make_member("mia", "annotator")
    client = client_for(request.getfixturevalue(who) if who else None)
    membership = Membership.objects.get(user=person)
    answer = client.post(f"{URL}{membership.pk}/", {"action": "link"})
    assert answer.status_code == {"outsider": 404, None: 302}.get(who, 403)
    assert "invitation" not in client.session


def test_the_password_is_changed_with_the_present_one_and_the_session_stays(teammate, client_for):
    client, elsewhere = client_for(teammate), client_for(teammate)
    new = {"new_password1": "a long phrase of hers", "new_password2": "a long phrase of hers"}
    wrong = client.post("/password/", {"old_password": "guess", **new})
    assert b"was entered incorrectly" in wrong.content
    page = client.post("/password/", {"old_password": "password", **new}, follow=True)
    assert b"Password changed." in page.content
    assert page.context["user"] == teammate
    assert elsewhere.get("/password/").status_code == 302
    assert client_for().login(username="toni", password="a long phrase of hers")
    assert client_for().get("/password/").url == "/login/?next=/password/"


@pytest.mark.parametrize(("next", "said"), [("/", False), ("/p/reviews/", True)])
def test_only_who_was_on_a_page_is_told_to_go_on_there(db, client_for, next, said):
    page = client_for().get("/login/", {"next": next}).content.decode()
    assert ("go on where you were" in page) == said
    assert "Ask your project’s admin" in page


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


def test_removing_somebody_keeps_their_judgments_and_frees_what_they_hold(
    project, owner, teammate, make_comparisons, client_for
):
    from annotate import judging, queue

    make_comparisons(2)
    claim = queue.claim(project, teammate)
    judging.record(claim.token, teammate, judging.Verdict("tie"))
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


def test_the_list_counts_current_judgments_and_costs_the_same_for_any_number_of_people(
    project, owner, make_member, make_comparisons, client_for, django_assert_max_num_queries
):
    from annotate import judging, queue

    make_comparisons(3)
    toni = make_member("toni", "annotator")
    for _ in range(2):
        judging.record(queue.claim(project, toni).token, toni, judging.Verdict("tie"))
    for number in range(15):
        make_member(f"person{number}", "annotator")
    client = client_for(owner)
    with django_assert_max_num_queries(8):
        page = client.get(URL)
    row = page.content.decode().split('<th scope="row"><span dir="auto">toni')[1].split("</tr>")[0]
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
