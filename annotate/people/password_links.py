"""Links with which a member chooses a password: make one, find it, use it, tell the account's owner.

The holder of a link can use the account, so a link must open nothing that its maker does not look after already.
This is checked when it is made and again when it is used.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Membership, PasswordLink, Role, User, token_digest
from annotate.people.members import awaits_password
from annotate.projects import trail
from annotate.text.moments import write_moment

MOST_TOLD = 3  # at once: the page of the account lists them all


def make_link(member: Membership, by: Membership) -> str:
    """Return the path of a new link for this member. It works once, within PASSWORD_RESET_TIMEOUT."""
    person = member.user
    if not can_have_link(by.user).filter(pk=person.pk).exists():
        raise RefusalError(
            _(
                "You cannot make a password link for %(person)s. The account is yours, closed, an admin’s, or opens "
                "more than the projects that you look after. An administrator of the site can set its password."
            )
            % {"person": person}
        )
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        PasswordLink.objects.create(
            person=person,
            by=by,
            maker_name=by.user.username,
            digest=token_digest(secret),
            state=_state(person),
            opens_new_account=awaits_password(person),
        )
        trail.record(trail.Verb.LINK_MADE, by.user, project=by.project, subject=person)
    return reverse("set-password", args=[secret])


def can_have_link(admin: User) -> QuerySet[User]:
    """Return the members for whom this admin may make a password link.

    Their accounts open no project that the admin does not look after, no part of the site's administration, and
    have no permission of their own. Another admin's account is left out, as it could outlast the maker's own role.
    So is the maker's own: a browser left open would be enough to keep it.
    """
    if not admin.is_active:
        return User.objects.none()
    looked_after = Membership.objects.filter(user=admin, role=Role.ADMIN).values("project")
    elsewhere = Membership.objects.exclude(project__in=looked_after)
    admins = Membership.objects.filter(role=Role.ADMIN)
    return (
        User.objects.filter(is_active=True, is_staff=False, is_superuser=False)
        .filter(groups=None, user_permissions=None)
        .exclude(pk=admin.pk)
        .exclude(pk__in=elsewhere.values("user"))
        .exclude(pk__in=admins.values("user"))
    )


def find_link(secret: str) -> PasswordLink | None:
    """Return the link with this secret if it still works."""
    return _working(PasswordLink.objects.filter(digest=token_digest(secret)))


def get_link(link_id: int | None) -> PasswordLink | None:
    """Return the link that a browser opened before if it still works."""
    return _working(PasswordLink.objects.filter(pk=link_id)) if link_id else None


def use_link(link_id: int, password: str) -> User | None:
    """Set the account's password and end the link. Return None if it works no more."""
    with transaction.atomic():
        maker = PasswordLink.objects.filter(pk=link_id).values("by")
        list(Membership.objects.select_for_update().filter(pk__in=maker))  # no demotion comes in between
        locked = PasswordLink.objects.select_for_update(of=("self",)).filter(pk=link_id)
        link = _working(locked)
        if link is None or link.by is None:
            return None
        link.used_at = timezone.now()
        link.save(update_fields=["used_at"])
        link.person.set_password(password)
        link.person.save(update_fields=["password"])
        trail.record(
            trail.Verb.LINK_USED, None, project=link.by.project, subject=link.person, made_by=link.maker_name
        )
        return link.person


def tell(request: HttpRequest, person: User) -> None:
    """Tell the account's owner, who signs in, about links to the account made since the last time.

    The first link of a new account is not told: the account had no user before.
    """
    untold = PasswordLink.objects.filter(person=person, told_at=None)
    for link in untold.filter(opens_new_account=False).order_by("-pk")[:MOST_TOLD]:
        messages.warning(request, _notice(link))
    untold.update(told_at=timezone.now())


def _notice(link: PasswordLink) -> str:
    told = {
        "maker": link.maker_name,
        "made": write_moment(link.made_at),
    }
    if link.used_at is None:
        return (
            _("%(maker)s made a link to choose your password (%(made)s). It was not used, and works no more.")
            % told
        )
    told["used"] = write_moment(link.used_at)
    return (
        _(
            "Your password was chosen with a link that %(maker)s made (%(made)s, used %(used)s). "
            "If that was not you, change your password and tell an administrator of this site."
        )
        % told
    )


def _working(links: QuerySet[PasswordLink]) -> PasswordLink | None:
    since = timezone.now() - timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
    link = (
        links.filter(used_at=None, made_at__gt=since, by__isnull=False)
        .select_related("person", "by__user", "by__project")
        .first()
    )
    if link is None or link.by is None or link.state != _state(link.person):
        return None
    if link.by.user.username != link.maker_name:  # the site's keeper gave the membership to another person
        return None
    return link if can_have_link(link.by.user).filter(pk=link.person_id).exists() else None


def _state(person: User) -> str:
    """Return a digest of what ends a link by changing: password, sign-in, projects. `Membership` ends it too."""
    projects = sorted(person.memberships.values_list("project", flat=True))
    return hashlib.sha256(repr((person.password, person.last_login, projects)).encode()).hexdigest()
