"""Invitations to a project. An admin invites, the invited person accepts. Or the admin makes an account.

Inviting says and does the same whether or not there is an account of that name. So it does not tell which accounts
the site has. An account made later under the name is not invited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Invitation, Membership, Project, Role, User
from annotate.projects import trail
from annotate.text.usernames import NAME_REFUSED, fold, name_key

if TYPE_CHECKING:
    from django.db.models import QuerySet

MOST_OPEN = 200  # of one project


def find_person(name: str, among: QuerySet[User] | None = None) -> User | None:
    """Return the account with this username, or with this address if it is confirmed.

    A name with an @ is an address and nothing else: the maker of an account chooses its username.
    """
    typed, key = fold(name), name_key(name)
    match = Q(username_key=key) | Q(username_key__startswith=f"{key} ")  # the second where two look alike
    if "@" in typed:
        match = Q(address=typed, confirmed=typed)
    accounts = (User.objects.all() if among is None else among).alias(
        address=Lower("email"), confirmed=Lower("confirmed_email")
    )
    found = list(accounts.filter(match, is_active=True))
    if "@" not in typed:
        exact = [person for person in found if person.username == name]
        found = exact or [person for person in found if fold(person.username) == typed]
    return found[0] if len(found) == 1 else None


def known_person(name: str, admin: User) -> User | None:
    """Return whom the admin means if the two share a project, so that showing them tells the admin nothing new."""
    projects = Membership.objects.filter(user=admin).values("project")
    sharing = Membership.objects.filter(project__in=projects).values("user")
    return find_person(name, User.objects.filter(pk__in=sharing))


def check(by: Membership, name: str) -> None:
    """Raise RefusalError if the admin can see for themselves that this name needs no invitation."""
    if any(
        fold(member.user.username) == fold(name) for member in by.project.memberships.select_related("user")
    ):
        raise RefusalError(
            _("%(person)s is already a member: change their role in the list.") % {"person": name}, "person"
        )
    if by.project.invitations.filter(name=fold(name)).exists():
        raise RefusalError(_("%(person)s is invited already.") % {"person": name}, "person")
    if by.project.invitations.count() >= MOST_OPEN:
        raise RefusalError(_("%d invitations wait for an answer: withdraw some first.") % MOST_OPEN, "person")


def invite(by: Membership, name: str, role: str) -> Invitation:
    """Invite the user who has this username or confirmed address now and is not a member."""
    strangers = User.objects.exclude(memberships__project=by.project)
    try:
        with transaction.atomic():
            # Of two invitations at once, the second counts the first.
            Project.objects.select_for_update(no_key=True).get(pk=by.project_id)
            check(by, name)
            invitation = Invitation.objects.create(
                project=by.project, name=fold(name), person=find_person(name, strangers), role=role, by=by
            )
            trail.record(trail.Verb.INVITED, by.user, project=by.project, target=invitation.name, role=role)
    except IntegrityError as invited:  # by another admin, at the same moment
        raise RefusalError(_("%(person)s is invited already.") % {"person": name}, "person") from invited
    return invitation


def withdraw(by: Membership, invitation_id: int) -> str | None:
    """Take an invitation back. Return whose it was, or None if it is answered already."""
    with transaction.atomic():
        invitation = by.project.invitations.select_for_update().filter(pk=invitation_id).first()
        if invitation is None:
            return None
        invitation.delete()
        trail.record(trail.Verb.WITHDRAWN, by.user, project=by.project, target=invitation.name)
        return invitation.name


def open_invitations(person: User) -> QuerySet[Invitation]:
    """Return the invitations that this person can answer."""
    mine = Invitation.objects.open().filter(person=person)
    return mine.exclude(project__memberships__user=person).select_related("project", "by__user")


def accept(person: User, invitation_id: int) -> Membership | None:
    """Make the person a member. Return None if the invitation was withdrawn, or ended with its maker's role."""
    with transaction.atomic():
        invitation = _locked(person, invitation_id)
        if invitation is None:
            return None
        invitation.delete()
        membership = Membership.objects.create(project=invitation.project, user=person, role=invitation.role)
        trail.record(
            trail.Verb.ACCEPTED,
            person,
            project=invitation.project,
            subject=person,
            role=invitation.role,
            invited_by=invitation.by.user.username,
        )
        return membership


def decline(person: User, invitation_id: int) -> Invitation | None:
    """Refuse one invitation. Its entry in the trail names what the admin typed, not whom it meant."""
    with transaction.atomic():
        invitation = _locked(person, invitation_id)
        if invitation is None:
            return None
        trail.record(
            trail.Verb.DECLINED, None, project=invitation.project, subject=person, target=invitation.name
        )
        invitation.delete()
        return invitation


def make_account(by: Membership, username: str, role: str) -> Membership:
    """Make an account without a password, as a member. `password_links.make_link` gives the link to hand over.

    It does not start as an admin: its first link would outlast the role of its maker.
    """
    if role == Role.ADMIN:
        raise RefusalError(_("Make them an admin once they have signed in."), "role")
    person = User(username=username)
    person.set_unusable_password()
    try:
        with transaction.atomic():
            person.save()
            trail.record(trail.Verb.ACCOUNT, by.user, project=by.project, subject=person, role=role)
            return Membership.objects.create(project=by.project, user=person, role=role)
    except IntegrityError as taken:
        raise RefusalError(str(NAME_REFUSED), "username") from taken


def _locked(person: User, invitation_id: int) -> Invitation | None:
    """Return the open invitation, with its maker's membership locked so that it cannot end meanwhile.

    The person is locked first: the second of two invitations accepted at once then sees the membership of the first.
    """
    list(User.objects.select_for_update(no_key=True).filter(pk=person.pk))
    maker = Invitation.objects.filter(pk=invitation_id).values("by")
    list(Membership.objects.select_for_update().filter(pk__in=maker))
    return open_invitations(person).select_for_update(of=("self",)).filter(pk=invitation_id).first()
