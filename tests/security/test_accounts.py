"""Accounts: whose name or address is taken for whose, and what outlives the authority or the password behind it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from annotate.models import ApiToken, Invitation, Membership, User
from tests.security.conftest import Tally
from tests.security.site import Site

KIND = "accounts: identity, authority, tokens"
ADDRESS = "newhire@company.example"
NEW = {"new_password1": "a phrase of the thief", "new_password2": "a phrase of the thief"}
SQUATS: list[tuple[str, dict[str, str]]] = [
    ("newhire", {"email": ADDRESS}),
    ("NEWHIRE", {"email": "NewHire@Company.Example"}),
    ("nеwhire", {"email": ADDRESS}),  # a Cyrillic letter
    ("ｎewhire", {}),  # a wide one
    (ADDRESS, {"email": ADDRESS}),
    ("ours-admin", {}),
    ("OURS-ADMIN", {}),
    ("оurs-admin", {}),
    ("admin", {"email": ADDRESS, "is_staff": "on", "is_superuser": "on"}),
]


def members(site: Site) -> set[str]:
    return set(site.ours.project.memberships.values_list("user__username", flat=True))


def test_a_squatter_is_never_taken_for_another(site: Site, tally: Tally) -> None:
    """The admin of one project makes accounts before and after the other invites. Each tries every invitation."""
    before, names = members(site), set(User.objects.values_list("username", flat=True))
    theirs, ours = site.browser("their admin"), site.browser("our admin")
    for role in ("annotator", "researcher", "admin"):
        theirs.post("/p/theirs/members/new/", {"username": f"early-{role}", "role": role, "email": ADDRESS})
    for name in (ADDRESS, "newhire", "NewHire@Company.Example", "ours-admin "):
        ours.post("/p/ours/members/invite/", {"person": name, "role": "admin"})
    for username, more in SQUATS:
        theirs.post("/p/theirs/members/new/", {"username": username, "role": "annotator", **more})
    made = User.objects.exclude(username__in=names)
    assert made.count() >= 3
    for squatter in made:
        tally.refuse(not (squatter.is_staff or squatter.email or "@" in squatter.username), squatter.username)
        client = Client()
        client.force_login(squatter)
        for invitation in Invitation.objects.all():
            client.post(f"/invitations/{invitation.pk}/", {"accept": ""})
            refused = members(site) == before and client.get("/p/ours/settings/").status_code == 404
            tally.refuse(refused, (squatter.username, invitation.name))


def demote(site: Site, maker: Membership) -> None:
    site.browser("our admin").post(f"/p/ours/members/{maker.pk}/", {"action": "role", "role": "researcher"})


def remove(site: Site, maker: Membership) -> None:
    site.browser("our admin").post(f"/p/ours/members/{maker.pk}/", {"action": "remove"})


def remove_and_add(site: Site, maker: Membership) -> None:
    remove(site, maker)
    site.ours.project.memberships.create(user=maker.user, role="admin")


def demote_and_promote(site: Site, maker: Membership) -> None:
    demote(site, maker)
    site.browser("our admin").post(f"/p/ours/members/{maker.pk}/", {"action": "role", "role": "admin"})


def close(site: Site, maker: Membership) -> None:
    User.objects.filter(pk=maker.user_id).update(is_active=False)


@pytest.mark.parametrize("lose", [demote, remove, remove_and_add, demote_and_promote, close])
def test_nothing_handed_out_outlives_its_maker(
    site: Site, tally: Tally, lose: Callable[[Site, Membership], None]
) -> None:
    thief = User.objects.create_user("thief", password="password")
    maker = Membership.objects.create(project=site.ours.project, user=thief, role="admin")
    client, before = Client(), {user.pk: user.password for user in User.objects.all()}
    client.force_login(thief)
    links = []
    for row in site.ours.project.memberships.all():
        page = client.post(f"/p/ours/members/{row.pk}/", {"action": "link"})
        found = re.findall(r"/set-password/[\w-]+/", page.content.decode())
        tally.refuse(bool(found) == (row.role != "admin" and row.user.username != "both"), row)
        links += found
    client.post("/p/ours/members/invite/", {"person": "outsider", "role": "admin"})
    lose(site, maker)
    for link in links:
        visitor = Client()
        visitor.get(link)
        visitor.post("/set-password/", NEW)
        tally.refuse({user.pk: user.password for user in User.objects.all()} == before, link)
    for invitation in Invitation.objects.all():
        site.browser("outsider").post(f"/invitations/{invitation.pk}/", {"accept": ""})
        tally.refuse("outsider" not in members(site), invitation)


def test_no_token_outlives_a_new_password(site: Site, tally: Tally) -> None:
    keeper: Any = site.browser("keeper")
    for name, person in site.people.items():
        if person is None or name == "keeper":
            continue
        address = f"/admin/annotate/user/{person.pk}/password/"
        keeper.post(address, {"password1": "Qm7-long-enough", "password2": "Qm7-long-enough"})
        answer = Client().get("/api/v1/projects/", headers={"Authorization": f"Bearer {site.tokens[name]}"})
        tally.refuse(answer.status_code == 401 and not ApiToken.objects.filter(user=person).exists(), name)
