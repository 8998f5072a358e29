"""Password links and what a new password ends: who makes them, when they end, and who is told.

A link is made by the page of members, and opened by its holder.
"""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test.utils import override_settings
from django.utils import timezone

from annotate.models import ApiToken, Membership, PasswordLink, Project, TrailEntry, User
from annotate.people.password_links import MOST_TOLD
from tests.annotate.test_admin import change as change_account

pytestmark = pytest.mark.once  # no query is special to a database

URL = "/p/reviews/members/"
NEW = {"new_password1": "a long phrase of hers", "new_password2": "a long phrase of hers"}


# --- Making and using a link -------------------------------------------------------------------------------------


def test_a_new_account_gets_a_link_that_sets_a_password_once(project, owner, client_for):
    client = client_for(owner)
    page = client.post(f"{URL}new/", {"username": "nora", "role": "annotator"})
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
    assert b"no longer works" in again.content


def link_for(client, person, project):
    """Return the password link that this admin gets for a member of the project, or None."""
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


def test_a_password_link_signs_its_user_out_elsewhere(project, owner, teammate, client_for):
    elsewhere = client_for(teammate)
    link = link_for(client_for(owner), teammate, project)
    choose(client_for(), link, "a long phrase of hers")
    assert client_for().login(username="toni", password="a long phrase of hers")
    assert elsewhere.get("/p/reviews/").status_code == 302
    assert b"no longer works" in client_for().get(link, follow=True).content


@pytest.fixture
def other(db):
    return Project.objects.create(slug="other", name="Other")


@pytest.mark.parametrize("role", ["annotator", "researcher", "admin"])
def test_an_admin_gets_no_link_to_an_account_of_other_projects(
    project, owner, teammate, other, client_for, role
):
    """Otherwise an admin of one project could take over any account by adding it."""
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
    assert b"no longer works" in client_for().get(link, follow=True).content


@pytest.mark.parametrize("more", ["is_staff", "is_superuser", "permission", "closed", "own"])
def test_no_link_opens_a_staff_a_closed_or_the_own_account(project, owner, teammate, client_for, more):
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
    assert not PasswordLink.objects.exists()


def membership_of(person, project):
    return Membership.objects.get(user=person, project=project)


def test_a_link_works_for_three_days(project, owner, teammate, client_for):
    link = link_for(client_for(owner), teammate, project)
    long_ago = timezone.now() - timedelta(days=3, seconds=1)
    PasswordLink.objects.update(made_at=long_ago)
    assert b"no longer works" in client_for().get(link, follow=True).content
    PasswordLink.objects.update(made_at=long_ago + timedelta(minutes=1))
    assert b"no longer works" not in client_for().get(link, follow=True).content


def test_a_link_dies_when_its_account_signs_in(project, owner, teammate, client_for):
    link = link_for(client_for(owner), teammate, project)
    client_for().post("/login/", {"username": "toni", "password": "password"})
    assert b"no longer works" in client_for().get(link, follow=True).content


def test_two_links_of_one_account_work_once(project, owner, teammate, client_for):
    first, second = (link_for(client_for(owner), teammate, project) for _ in range(2))
    choose(client_for(), first, "a long phrase of hers")
    assert b"no longer works" in client_for().get(second, follow=True).content


# --- A link ends with the authority of its maker -----------------------------------------------------------------


@pytest.fixture
def adminb(make_member):
    return make_member("adminb", "admin")


@pytest.fixture
def adminb2(make_member):
    return make_member("adminb2", "admin")


def test_no_admin_gets_a_link_to_a_co_admin(project, adminb, adminb2, client_for):
    """Removed by the co-admin, she would go on as the co-admin."""
    assert link_for(client_for(adminb), adminb2, project) is None
    assert b"Password link for adminb2" not in client_for(adminb).get(URL).content


LOSSES = ["removed", "removed and added again", "demoted", "demoted and promoted again", "closed"]


@pytest.mark.parametrize("opened", [False, True], ids=["before it is opened", "while its page is open"])
@pytest.mark.parametrize("lost", LOSSES)
def test_a_link_ends_when_its_maker_loses_the_role(
    project, adminb, adminb2, teammate, client_for, lost, opened
):
    link = link_for(client_for(adminb), teammate, project)
    visitor = client_for()
    if opened:
        assert b"Choose a password" in visitor.get(link, follow=True).content
    client, row = client_for(adminb2), membership_of(adminb, project)
    if lost.startswith("removed"):
        client.post(f"{URL}{row.pk}/", {"action": "remove"})
    elif lost.startswith("demoted"):
        client.post(f"{URL}{row.pk}/", {"action": "role", "role": "researcher"})
    else:
        User.objects.filter(pk=adminb.pk).update(is_active=False)
    if lost.endswith("added again"):
        project.memberships.create(user=adminb, role="admin")
    if lost.endswith("promoted again"):
        client.post(f"{URL}{row.pk}/", {"action": "role", "role": "admin"})
    page = visitor.post("/set-password/", NEW, follow=True) if opened else visitor.get(link, follow=True)
    assert b"no longer works" in page.content
    assert User.objects.get(pk=teammate.pk).check_password("password")


@pytest.mark.parametrize("change", ["admin", "staff", "permission"])
def test_a_link_ends_when_its_account_comes_to_open_more(
    project, adminb, adminb2, teammate, client_for, change
):
    link = link_for(client_for(adminb), teammate, project)
    if change == "admin":
        row = membership_of(teammate, project)
        client_for(adminb2).post(f"{URL}{row.pk}/", {"action": "role", "role": "admin"})
        assert membership_of(teammate, project).role == "admin"
    elif change == "staff":
        User.objects.filter(pk=teammate.pk).update(is_staff=True)
    else:
        teammate.user_permissions.add(Permission.objects.get(codename="add_project"))
    assert b"no longer works" in client_for().get(link, follow=True).content


def test_a_link_ends_when_its_makers_place_is_anothers(project, owner, teammate, outsider, client_for):
    """The site's keeper may give a membership to another person, in the administration."""
    link = link_for(client_for(owner), teammate, project)
    Membership.objects.filter(user=owner).update(user=outsider)
    assert b"no longer works" in client_for().get(link, follow=True).content


@pytest.mark.parametrize("change", ["role", "removed", "joined", "staff"])
def test_a_dead_link_does_not_revive(project, adminb, teammate, other, client_for, admin_client, change):
    link = link_for(client_for(adminb), teammate, project)
    row = membership_of(teammate, project)
    if change == "role":
        for role in ("admin", "annotator"):
            row.role = role
            row.save()
    elif change == "removed":
        row.delete()
        project.memberships.create(user=teammate, role="annotator")
    elif change == "joined":
        other.memberships.create(user=teammate, role="annotator").delete()
    else:
        for fields in ({"is_staff": "on"}, {"is_staff": False}):
            change_account(admin_client, teammate, **fields)
    teammate.refresh_from_db()
    assert not teammate.is_staff
    assert b"no longer works" in client_for().get(link, follow=True).content


# --- The owner is told -------------------------------------------------------------------------------------------


def sign_in(client_for, username, password):
    credentials = {"username": username, "password": password, "next": "/account/"}
    return client_for().post("/login/", credentials, follow=True).content.decode()


def test_an_unused_link_is_told_at_the_next_sign_in(project, owner, teammate, client_for):
    link_for(client_for(owner), teammate, project)
    page = sign_in(client_for, "toni", "password")
    assert "olive made a link to choose your password" in page
    assert "It was not used" in page
    assert "made a link" not in sign_in(client_for, "toni", "password")


def test_of_many_links_the_latest_are_told(project, owner, teammate, client_for):
    for _ in range(MOST_TOLD + 2):
        link_for(client_for(owner), teammate, project)
    page = sign_in(client_for, "toni", "password")
    assert page.count("made a link to choose your password") == MOST_TOLD
    assert "made a link" not in sign_in(client_for, "toni", "password")


def test_a_dead_link_closes_what_a_link_before_it_opened(project, owner, teammate, client_for):
    visitor = client_for()
    opened = visitor.get(link_for(client_for(owner), teammate, project), follow=True)
    assert opened.context["form"] is not None
    assert b"no longer works" in visitor.get("/set-password/unknown/", follow=True).content


def test_a_used_link_is_told_to_who_comes_next_by_a_password(project, owner, teammate, client_for):
    choose(client_for(), link_for(client_for(owner), teammate, project), "a long phrase of hers")
    assert "with a link that olive made" in sign_in(client_for, "toni", "a long phrase of hers")
    assert "with a link that" not in sign_in(client_for, "toni", "a long phrase of hers")


def test_it_is_told_again_after_the_account_was_taken_back(project, owner, teammate, client_for):
    """The link's user may be the one who was told."""
    choose(client_for(), link_for(client_for(owner), teammate, project), "a phrase of the thief")
    sign_in(client_for, "toni", "a phrase of the thief")
    teammate.refresh_from_db()
    teammate.set_password("a long phrase of hers")
    teammate.save()
    page = sign_in(client_for, "toni", "a long phrase of hers")
    assert "with a link that olive made" in page
    assert "A password link was used for <b" in page  # on the page of the account, for good


def test_a_new_accounts_first_link_is_not_worth_a_warning(project, owner, client_for):
    page = client_for(owner).post(f"{URL}new/", {"username": "nora", "role": "annotator"})
    link = re.search(rb'value="http://testserver(/set-password/[^"]+)"', page.content)[1].decode()
    choose(client_for(), link, "a long phrase of hers")
    assert "with a link that" not in sign_in(client_for, "nora", "a long phrase of hers")


# --- Nothing is left behind --------------------------------------------------------------------------------------


def test_links_and_tokens_are_in_no_session_and_no_cache(project, owner, teammate, client_for):
    client, visitor = client_for(owner), client_for()
    page = client.post(f"{URL}{membership_of(teammate, project).pk}/", {"action": "link"})
    link = re.search(rb"/set-password/([^/]+)/", page.content)[1].decode()
    form = visitor.get(f"/set-password/{link}/", follow=True)
    made = client.post("/tokens/", {"name": "a script"})
    token = re.search(rb'value="(wst_[^"]+)"', made.content)[1].decode()
    for answer in (page, form, form.redirect_chain and visitor.get(f"/set-password/{link}/"), made):
        assert "no-store" in answer["Cache-Control"]
    assert link not in form.content.decode()
    assert link not in form.request["PATH_INFO"]
    stored = repr([session.get_decoded() for session in Session.objects.all()])
    stored += repr(list(PasswordLink.objects.values())) + repr(list(ApiToken.objects.values()))
    assert link not in stored
    assert token not in stored
    assert link not in client.get(URL).content.decode()
    assert token not in client.get("/tokens/").content.decode()


# --- A new password ends the tokens ------------------------------------------------------------------------------


def opens(token, client_for):
    answer = client_for().get("/api/v1/projects/", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == 200


@pytest.fixture
def token(teammate):
    return ApiToken.issue(teammate, "a script")[1]


def by_link(project, owner, teammate, client_for, admin_client):
    choose(client_for(), link_for(client_for(owner), teammate, project), "a long phrase of hers")


def by_the_sites_keeper(project, owner, teammate, client_for, admin_client):
    address = f"/admin/annotate/user/{teammate.pk}/password/"
    admin_client.post(address, {"password1": "Qm7-long-enough", "password2": "Qm7-long-enough"})


def by_taking_the_password_away(project, owner, teammate, client_for, admin_client):
    address = f"/admin/annotate/user/{teammate.pk}/password/"
    admin_client.post(address, {"usable_password": "false", "unset-password": "1"})
    teammate.refresh_from_db()
    assert not teammate.has_usable_password()


def by_command(project, owner, teammate, client_for, admin_client):
    from unittest.mock import patch

    with patch("getpass.getpass", return_value="Qm7-long-enough"):  # a terminal's question
        call_command("changepassword", "toni", verbosity=0)


def by_oneself(project, owner, teammate, client_for, admin_client):
    client_for(teammate).post("/password/", {"old_password": "password", "revoke_tokens": "on", **NEW})


@pytest.mark.parametrize(
    "change", [by_link, by_the_sites_keeper, by_taking_the_password_away, by_command, by_oneself]
)
def test_a_new_password_ends_the_tokens(project, owner, teammate, token, client_for, admin_client, change):
    assert opens(token, client_for)
    change(project, owner, teammate, client_for, admin_client)
    assert not User.objects.get(pk=teammate.pk).check_password("password")
    assert not opens(token, client_for)
    entry = TrailEntry.objects.get(subject=teammate, verb="password")
    assert entry.details == {"tokens revoked": 1}
    keeper = {by_the_sites_keeper: "admin", by_taking_the_password_away: "admin", by_oneself: "toni"}
    assert entry.who_name == keeper.get(change, "")


def test_on_ones_own_change_the_tokens_may_stay(teammate, token, client_for):
    client = client_for(teammate)
    page = client.get("/password/").content.decode()
    assert "Also revoke my API token" in page
    assert 'name="revoke_tokens" id="id_revoke_tokens" checked' in page
    client.post("/password/", {"old_password": "password", **NEW})
    assert opens(token, client_for)
    assert User.objects.get(pk=teammate.pk).check_password(NEW["new_password1"])


def test_signing_in_with_an_outdated_hash_ends_no_token(teammate, token, client_for):
    hashers = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    before = teammate.password
    with override_settings(PASSWORD_HASHERS=hashers):
        client_for().post("/login/", {"username": "toni", "password": "password"})
    teammate.refresh_from_db()
    assert teammate.password != before  # it was upgraded
    assert opens(token, client_for)
    assert not TrailEntry.objects.filter(verb="password").exists()


def test_a_thiefs_token_does_not_outlive_the_reset(project, adminb, make_user, client_for, admin_client):
    """She takes an account over by a link, makes a token, and waits until the account is given more."""
    victim = make_user("victim")
    project.memberships.create(user=victim, role="annotator")
    thief = client_for()
    choose(thief, link_for(client_for(adminb), victim, project), "a phrase of the thief")
    page = thief.post("/tokens/", {"name": "hers"})
    token = re.search(rb'value="(wst_[^"]+)"', page.content)[1].decode()
    assert opens(token, client_for)
    by_the_sites_keeper(project, adminb, victim, client_for, admin_client)
    membership = membership_of(victim, project)
    membership.role = "admin"
    membership.save()
    assert not opens(token, client_for)


def test_the_sites_keeper_sees_how_many_tokens_there_are(teammate, token, admin_client):
    page = admin_client.get(f"/admin/annotate/user/{teammate.pk}/change/").content.decode()
    link = re.search(r'href="(/admin/annotate/apitoken/[^"]+)">1 token</a>', page)[1]
    listed = admin_client.get(link).content.decode()
    assert "a script" in listed


# --- One's own password ------------------------------------------------------------------------------------------


def test_a_password_change_needs_the_old_one_keeps_the_session(teammate, client_for):
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
