"""Invitations: what an admin may learn, who is meant, and that the person decides."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Invitation, Membership, Project, TrailEntry, User
from annotate.people import invitations
from tests.annotate.models.test_models import refuses

pytestmark = pytest.mark.once  # no query is special to a database

URL = "/p/reviews/members/"


@pytest.fixture
def admin(owner):
    return Membership.objects.get(user=owner)


@pytest.fixture
def other_admin(make_member):
    """Return the admin of another project, who wants into this one."""
    return make_member("oscar", "admin", in_project=Project.objects.create(slug="other", name="Other"))


def invite(client, name, role="annotator"):
    return client.post(f"{URL}invite/", {"person": name, "role": role}, follow=True)


def answer(client, button="accept"):
    return client.post(f"/invitations/{Invitation.objects.get().pk}/", {button: ""}, follow=True)


def confirm(person, email):
    person.email = person.confirmed_email = email
    person.save()


# --- Asking, inviting, answering ------------------------------------------------------------------------------------


def test_the_page_asks_before_it_invites(owner, outsider, client_for):
    page = client_for(owner).post(URL, {"person": "otto", "role": "admin"}).content.decode()
    assert "Invite “otto” as admin?" in page
    assert "Make an account" in page
    assert not Invitation.objects.exists()


def test_a_person_is_a_member_only_after_accepting(project, owner, outsider, client_for):
    invite(client_for(owner), "otto", "researcher")
    client = client_for(outsider)
    assert client.get("/p/reviews/").status_code == 404
    home = client.get("/").content.decode()
    assert "olive invites you to join this project as researcher." in home
    page = answer(client)
    assert page.status_code == 200
    assert b"You are a member of Film reviews now (Researcher)." in page.content
    assert Membership.objects.get(user=outsider).role == "researcher"
    assert not Invitation.objects.exists()


def test_a_declined_invitation_is_gone(project, owner, outsider, client_for):
    invite(client_for(owner), "otto")
    page = answer(client_for(outsider), "decline")
    assert b"You declined" in page.content
    assert not Invitation.objects.exists()
    assert not Membership.objects.filter(user=outsider).exists()


def test_a_withdrawn_invitation_cannot_be_accepted(project, owner, outsider, client_for):
    client = client_for(owner)
    page = invite(client, "otto")
    assert b"Withdraw the invitation of otto" in page.content
    number = Invitation.objects.get().pk
    client.post(f"{URL}invitations/{number}/withdraw/")
    page = client_for(outsider).post(f"/invitations/{number}/", {"accept": ""}, follow=True)
    assert b"withdrawn, or has ended" in page.content
    assert not Membership.objects.filter(user=outsider).exists()


def test_nobody_answers_another_persons_invitation(owner, outsider, teammate, make_user, client_for):
    invite(client_for(owner), "otto")
    for person in (make_user("eve"), teammate, owner):
        for button in ("accept", "decline"):
            answer(client_for(person), button)
    assert client_for().post(f"/invitations/{Invitation.objects.get().pk}/").status_code == 302
    assert not Membership.objects.filter(user__username__in=["eve", "otto"]).exists()


def test_another_projects_admin_withdraws_nothing(owner, outsider, other_admin, client_for):
    invite(client_for(owner), "otto")
    number = Invitation.objects.get().pk
    client_for(other_admin).post(f"/p/other/members/invitations/{number}/withdraw/")
    client_for(other_admin).post(f"{URL}invitations/{number}/withdraw/")
    assert Invitation.objects.exists()


@pytest.mark.parametrize("lost", ["demoted", "removed", "closed", "archived"])
def test_an_invitation_ends_with_its_makers_role(
    project, owner, outsider, make_member, client_for, lost, django_user_model
):
    maker = make_member("adminb", "admin")
    invite(client_for(maker), "otto", "admin")
    number = Invitation.objects.get().pk
    membership = Membership.objects.get(user=maker)
    client = client_for(owner)
    if lost == "demoted":
        client.post(f"{URL}{membership.pk}/", {"action": "role", "role": "annotator"})
        client.post(f"{URL}{membership.pk}/", {"action": "role", "role": "admin"})  # it does not come back
    elif lost == "removed":
        client.post(f"{URL}{membership.pk}/", {"action": "remove"})
    elif lost == "closed":
        django_user_model.objects.filter(pk=maker.pk).update(is_active=False)
    else:
        client.post("/p/reviews/settings/archive/")
    visitor = client_for(outsider)
    assert "invites you" not in visitor.get("/").content.decode()
    visitor.post(f"/invitations/{number}/", {"accept": ""})
    assert not Membership.objects.filter(user=outsider).exists()


def test_a_name_is_invited_once(project, owner, outsider, teammate, client_for):
    client = client_for(owner)
    invite(client, "otto")
    for name, said in (("Otto", b"Otto is invited already."), ("TONI", b"TONI is already a member")):
        assert said in client.post(URL, {"person": name, "role": "admin"}).content
        page = invite(client, name)
        assert page.status_code == 422
        assert said in page.content
    assert Invitation.objects.count() == 1


def test_open_invitations_are_bounded(project, admin, client_for, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 1)
    client = client_for(admin.user)
    invite(client, "one")
    assert b"wait for an answer" in invite(client, "two").content
    assert Invitation.objects.count() == 1


@pytest.mark.parametrize("name", ["\u200botto", "a\u202eb", "ot\u3164to", "otto@ex\u00adample.org", "o\nt"])
def test_a_name_that_hides_characters_is_not_invited(project, owner, client_for, name):
    page = invite(client_for(owner), name)
    assert page.status_code == 422
    assert "cannot be seen" in page.content.decode()
    assert not Invitation.objects.exists()


@pytest.mark.parametrize("when", ["before", "while"])
@pytest.mark.parametrize("ends", ["the page", "the site's keeper"])
def test_an_invitation_does_not_outlive_a_removal(
    project, owner, outsider, make_member, client_for, admin_client, ends, when
):
    """Invited as an admin by address, before or while a member in a lesser role, and removed."""
    confirm(outsider, "otto@example.org")
    for step in ("before", "while"):
        if step == when:
            invite(client_for(owner), "otto@example.org", "admin")
        if step == "before":
            membership = Membership.objects.create(project=project, user=outsider, role="annotator")
    number, client = Invitation.objects.get().pk, client_for(outsider)
    accept = {"path": f"/invitations/{number}/", "data": {"accept": ""}}
    client.post(**accept)
    membership.refresh_from_db()
    assert membership.role == "annotator"
    if ends == "the page":
        client_for(owner).post(f"{URL}{membership.pk}/", {"action": "remove"})
    else:
        membership.delete()
    assert "invites you" not in client.get("/").content.decode()
    client.post(**accept)
    assert not Membership.objects.filter(user=outsider).exists()
    # That it stays in the list tells no admin whose address it is.
    assert "otto@example.org" in client_for(owner).get(URL).content.decode()


# --- What an admin does not learn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [False, True])
def test_inviting_tells_nobody_whether_there_is_an_account(project, owner, outsider, client_for, closed):
    """Status, words and queries are the same for an account, a closed account and none."""
    outsider.is_active, outsider.first_name = not closed, "Otto"
    confirm(outsider, "otto@example.org")
    client = client_for(owner)
    seen = {}
    for name in ("otto", "ottx", "otto@example.org", "ottx@example.org"):
        with CaptureQueriesContext(connection) as queries:
            asked = client.post(URL, {"person": name, "role": "annotator"})
            invited = invite(client, name)
            count = len(queries)
        trail = client.get(f"/p/reviews/trail/?person={name}")
        pages = [_anonymous(page.content.decode(), name) for page in (asked, invited, trail)]
        seen[name] = [asked.status_code, invited.status_code, count, *pages]
        Invitation.objects.all().delete()
    assert seen["otto"][2] > 10
    assert seen["otto"] == seen["ottx"]
    assert seen["otto@example.org"] == seen["ottx@example.org"]


def _anonymous(html: str, name: str) -> str:
    """Return the page without the name that was typed, and without keys and times."""
    main = re.sub(r'csrfmiddlewaretoken" value="\w+|/invitations/\d+/', "", html.partition("<main")[2])
    main = re.sub(r"<time.*?</time>|<option>ott.*?</option>", "", main, flags=re.DOTALL)
    return main.replace(name, "NAME").replace(name.partition("@")[0], "NAME")


@pytest.mark.parametrize("button", ["accept", "decline"])
def test_an_answer_does_not_tell_whose_address_it_is(project, owner, outsider, client_for, button):
    confirm(outsider, "mail@example.org")
    admin = client_for(owner)
    by_name, by_address = "otto", "mail@example.org"
    for name in (by_name, by_address):
        invite(admin, name)
    declined = Invitation.objects.get(name=by_address if button == "decline" else by_name)
    client_for(outsider).post(f"/invitations/{declined.pk}/", {button: ""})
    if button == "accept":
        assert Invitation.objects.get().name == by_address
    else:
        assert Invitation.objects.get().name == by_name
        entry = TrailEntry.objects.get(verb="declined")
        assert (entry.who, entry.actor, entry.target) == (None, by_address, by_address)
        page = client_for(outsider).get("/account/").content.decode()
        assert "Declined the invitation" in page


def test_the_members_page_shows_no_email_address(project, owner, teammate, outsider, client_for):
    for person in (teammate, outsider):
        confirm(person, f"{person}@example.org")
    client = client_for(owner)
    page = invite(client, "otto").content.decode()
    answer(client_for(outsider))
    assert "@example.org" not in page + client.get(URL).content.decode()


def test_a_person_known_from_another_project_is_named(owner, outsider, make_user, client_for):
    other = Project.objects.create(slug="other", name="Other")
    outsider.first_name, outsider.last_name = "Otto", "Klein"
    outsider.save()
    client = client_for(owner)
    assert "Klein" not in client.post(URL, {"person": "otto", "role": "annotator"}).content.decode()
    for person in (owner, outsider):
        other.memberships.create(user=person, role="annotator")
    page = client.post(URL, {"person": "otto", "role": "annotator"}).content.decode()
    assert "Invite Otto Klein (otto) as annotator?" in page
    assert "Make an account" not in page


# --- Who is meant ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("mia", True),
        (" MIA ", True),
        ("mia@example.org", True),
        ("Mia@Example.org", True),
        ("mіa", False),  # a Cyrillic letter
        ("mi", False),
        ("mia@example.com", False),
    ],
)
def test_a_person_is_found_by_username_or_confirmed_address(make_user, typed, found):
    mia = make_user("mia")
    confirm(mia, "mia@example.org")
    assert invitations.find_person(typed.strip()) == (mia if found else None)


def test_of_two_that_look_alike_the_one_that_is_typed_is_found(make_user):
    """Accounts from before the rule about such names keep theirs."""
    older, newer = make_user("mia"), make_user("other")
    User.objects.filter(pk=newer.pk).update(username="Mia", username_key=f"{older.username_key} {newer.pk}")
    assert [invitations.find_person(name) for name in ("mia", "Mia", "MIA")] == [older, newer, None]


def test_a_closed_account_is_not_found(make_user):
    mia = make_user("mia")
    confirm(mia, "mia@example.org")
    User.objects.filter(pk=mia.pk).update(is_active=False)
    assert [invitations.find_person(name) for name in ("mia", "mia@example.org")] == [None, None]


def test_an_unconfirmed_address_identifies_nobody(make_user):
    mia = make_user("mia")
    mia.email = "mia@example.org"
    mia.save()
    assert invitations.find_person("mia@example.org") is None


def test_changing_the_address_unconfirms_it(make_user):
    mia = make_user("mia")
    confirm(mia, "mia@example.org")
    User.objects.filter(pk=mia.pk).update(email="mia@example.com")
    mia.refresh_from_db()
    assert not mia.has_confirmed_email
    assert invitations.find_person("mia@example.com") is None
    assert invitations.find_person("mia@example.org") is None


def test_a_squatted_address_makes_nobody_admin_elsewhere(project, owner, other_admin, client_for):
    """The admin of one project makes an account with a future colleague's address, and waits for it to be added."""
    squatter = client_for(other_admin)
    for given in (
        {"username": "eve", "email": "newhire@company.example", "role": "annotator"},
        {"username": "newhire@company.example", "role": "annotator"},
    ):
        squatter.post("/p/other/members/new/", given)
    eve = User.objects.get(username="eve")
    assert eve.email == ""
    assert not User.objects.filter(username__contains="@").exists()
    User.objects.filter(pk=eve.pk).update(email="newhire@company.example")  # as it was possible once
    User.objects.create_user("newhire@company.example", password="password")
    invite(client_for(owner), "newhire@company.example", "admin")
    for person in User.objects.filter(username__in=["eve", "newhire@company.example"]):
        client = client_for(person)
        assert "invites you" not in client.get("/").content.decode()
        answer(client)
        assert client.get("/p/reviews/settings/").status_code == 404


def test_an_account_made_after_the_invitation_is_not_invited(project, owner, other_admin, client_for):
    invite(client_for(owner), "newhire", "admin")
    client_for(other_admin).post("/p/other/members/new/", {"username": "newhire", "role": "annotator"})
    squatter = client_for(User.objects.get(username="newhire"))
    assert "invites you" not in squatter.get("/").content.decode()
    answer(squatter)
    assert Membership.objects.filter(user__username="newhire", project=project).count() == 0


# --- Making an account ----------------------------------------------------------------------------------------------


def test_the_offer_to_make_an_account_is_filled_in(project, owner, client_for):
    page = client_for(owner).post(URL, {"person": "nora@example.org", "role": "researcher"}).content.decode()
    assert 'value="nora"' in page
    assert '<option value="researcher" selected>' in page


@pytest.mark.parametrize(
    ("username", "said"),
    [
        ("otto", "This name cannot be used for a new account"),
        ("OTTO", "This name cannot be used for a new account"),
        ("оtto", "mixes Cyrillic, Latin"),
        ("аре", "This name cannot be used for a new account"),  # all Cyrillic, and looks like ape
        ("ｏtto", "This name cannot be used for a new account"),  # a wide letter
        ("Admin", "This name cannot be used for a new account"),
        ("admin.", "This name cannot be used for a new account"),
        *((f"otto{filler}", "cannot be seen") for filler in "\u3164\u115f\u1160\uffa0"),
        ("\uffa0otto", "cannot be seen"),
        ("ᴏᴛᴛᴏ", "This name cannot be used for a new account"),  # small capitals
        ("ottoˑ", "This name cannot be used for a new account"),  # modifier letters
        ("ottoʼ", "This name cannot be used for a new account"),
        ("ottoـ", "This name cannot be used for a new account"),
        ("otto.", "This name cannot be used for a new account"),
        ("otto@example.org", "has no @"),
        ("o tto", "Enter a valid username"),
        ("", "required"),
    ],
)
def test_a_name_that_could_pass_for_anothers_is_refused(
    owner, outsider, make_user, client_for, username, said
):
    make_user("ape")
    before = User.objects.count()
    page = client_for(owner).post(f"{URL}new/", {"username": username, "role": "annotator"})
    assert page.status_code == 422
    assert said in page.content.decode()
    assert User.objects.count() == before


@pytest.mark.parametrize("username", ["nora", "Zoë", "иван", "桜さくら", "まりー", "o.tto", "_"])
def test_names_of_one_alphabet_are_taken(owner, outsider, client_for, username):
    page = client_for(owner).post(f"{URL}new/", {"username": username, "role": "annotator"})
    assert page.status_code == 200
    assert User.objects.filter(username=username).exists()


def test_a_new_account_does_not_start_as_an_admin(project, owner, client_for):
    client = client_for(owner)
    page = client.post(f"{URL}new/", {"username": "nora", "role": "admin"})
    assert page.status_code == 422
    assert not User.objects.filter(username="nora").exists()
    client.post(f"{URL}new/", {"username": "nora", "role": "annotator"})
    nora = Membership.objects.get(user__username="nora")
    page = client.post(f"{URL}{nora.pk}/", {"action": "role", "role": "admin"}, follow=True)
    assert b"has not signed in yet" in page.content
    nora.refresh_from_db()
    assert nora.role == "annotator"


def test_the_database_refuses_a_username_that_looks_like_another(outsider):
    for name in ("OTTO", "оttо", "otto\u3164", "ot\u200bto", "ᴏᴛᴛᴏ", "ottoˑ", "ottoـ", "otto."):
        assert refuses(lambda name=name: User.objects.create(username=name))
        assert refuses(lambda name=name: User.objects.bulk_create([User(username=name)]))


def test_the_database_refuses_an_address_twice(make_user):
    User.objects.filter(pk=make_user("mia").pk).update(email="mia@example.org")
    assert refuses(lambda: User.objects.create(username="max", email="MIA@example.org"))
    User.objects.create(username="one")  # no address, as often as wanted
    User.objects.create(username="two")


def test_every_answer_leaves_a_trail(project, owner, outsider, client_for):
    invite(client_for(owner), "otto")
    answer(client_for(outsider), "decline")
    invite(client_for(owner), "otto", "researcher")
    answer(client_for(outsider))
    entries = TrailEntry.objects.filter(project=project).order_by("pk")
    assert list(entries.values_list("verb", "who_name", "target")) == [
        ("invited", "olive", "otto"),
        ("declined", "", "otto"),
        ("invited", "olive", "otto"),
        ("accepted", "otto", "otto"),
    ]


@pytest.mark.django_db(transaction=True)
def test_two_invitations_accepted_at_once_make_one_member(project, admin, make_member, make_user):
    makers = [admin, Membership.objects.get(user=make_member("adminb", "admin"))]
    for number in range(8):
        person = make_user(f"mia{number}")
        confirm(person, f"mia{number}@example.org")
        names = (person.username, person.email)
        sent = [invitations.invite(by, name, "annotator") for by, name in zip(makers, names, strict=True)]
        start = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(_accept, start, person, one.pk) for one in sent]
        assert sum(answer.result() is not None for answer in answers) == 1
        assert project.memberships.filter(user=person).count() == 1


def _accept(start, person, number):
    try:
        start.wait(60)
        return invitations.accept(person, number)
    finally:
        connection.close()


@pytest.mark.parametrize("username", ["otto", "OTTO", "оttо", "otto.", "ᴏᴛᴛᴏ", "new\u3164"])
def test_createsuperuser_refuses_a_look_alike_in_a_sentence(outsider, username):
    with pytest.raises(CommandError, match=r"already|cannot be seen|mixes"):
        call_command("createsuperuser", username=username, email="", interactive=False)
