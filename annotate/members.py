"""Who belongs to a project and as what: add, invite, change, remove.

Removing somebody ends their membership and returns what they hold; what they judged stays, with their name.
A project always keeps an admin, also when two admins act on each other at once.
"""

from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _

from annotate import queue
from annotate.models import Judgment, Membership, Project, Role, User


class MemberError(Exception):
    """A change that was refused, in one sentence; `field` is the form field it speaks of, or empty."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def find_person(name: str) -> User | None:
    """The account with this username, or else with this email address; None if there is none."""
    by_username = User.objects.filter(username=name).first()
    if by_username is not None:
        return by_username
    found = list(User.objects.filter(email__iexact=name)[:2]) if "@" in name else []
    if len(found) > 1:
        raise MemberError(_("Several accounts use that email address: give the username."), "person")
    return found[0] if found else None


def add_member(project: Project, person: User, role: str) -> Membership:
    if not person.is_active:
        raise MemberError(
            _("That account is closed: only an administrator of the site can open it."), "person"
        )
    membership, created = Membership.objects.get_or_create(
        project=project, user=person, defaults={"role": role}
    )
    if not created:
        raise MemberError(
            _("%(person)s is already a member: change their role in the list.") % {"person": person}, "person"
        )
    return membership


def invite(project: Project, *, username: str, email: str, role: str) -> Membership:
    """A new account without a password, as a member. `password_path` gives the link to hand over."""
    with transaction.atomic():
        person = User(username=username, email=email)
        person.set_unusable_password()
        person.save()
        return Membership.objects.create(project=project, user=person, role=role)


def awaits_password(person: User) -> bool:
    """Whether the account was made by an invitation that nobody has taken up yet."""
    return person.is_active and person.last_login is None and not person.has_usable_password()


def may_have_link(admin: User) -> QuerySet[User]:
    """The people for whom this admin may make a password link.

    Whoever holds the link can use the account. So it must open nothing that the admin does not look after already:
    no other project, no part of the site's administration, no permission of its own. And not the admin's own account:
    a browser left open would be enough to keep it.
    """
    own = Membership.objects.filter(user=admin, role=Role.ADMIN).values("project")
    elsewhere = Membership.objects.exclude(project__in=own)
    return (
        User.objects.filter(is_active=True, is_staff=False, is_superuser=False)
        .filter(groups=None, user_permissions=None)
        .exclude(pk=admin.pk)
        .exclude(pk__in=elsewhere.values("user"))
    )


class PasswordLinks(PasswordResetTokenGenerator):
    """Their tokens work once, within PASSWORD_RESET_TIMEOUT, and only while the account opens what it opened then."""

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        projects = sorted(user.memberships.values_list("project", flat=True))
        return f"{super()._make_hash_value(user, timestamp)}{projects}{user.is_staff}{user.is_superuser}"


password_links = PasswordLinks()


def password_path(person: User, by: User) -> str:
    """A link that lets whoever holds it choose the account's password, once, within PASSWORD_RESET_TIMEOUT."""
    if not may_have_link(by).filter(pk=person.pk).exists():
        raise MemberError(
            _(
                "You cannot make a password link for %(person)s: the account is yours, closed, or opens more than the "
                "projects that you look after. An administrator of the site can."
            )
            % {"person": person}
        )
    uid = urlsafe_base64_encode(force_bytes(person.pk))
    return reverse("set-password", args=[uid, password_links.make_token(person)])


def change_role(project: Project, membership_id: int, role: str) -> Membership:
    with transaction.atomic():
        membership = _locked(project, membership_id)
        if role != Role.ADMIN:
            _keep_an_admin(membership)
        membership.role = role
        membership.save(update_fields=["role"])
        return membership


def remove_member(project: Project, membership_id: int) -> User:
    with transaction.atomic():
        membership = _locked(project, membership_id)
        _keep_an_admin(membership)
        membership.delete()
    # Afterwards, one claim at a time: within a transaction it would meet the verdict that is being sent.
    queue.leave(project, membership.user)
    return membership.user


def _locked(project: Project, membership_id: int) -> Membership:
    """The membership, with the project's admins locked so that the last two cannot leave at the same time."""
    members = list(
        Membership.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(Q(pk=membership_id) | Q(role=Role.ADMIN), project=project)
        .order_by("pk")
    )
    for membership in members:
        if membership.pk == membership_id:
            return membership
    raise MemberError(_("That person is no longer a member of this project."))


def _keep_an_admin(membership: Membership) -> None:
    others = Membership.objects.filter(project=membership.project_id, role=Role.ADMIN).exclude(
        pk=membership.pk
    )
    if membership.role == Role.ADMIN and not others.exists():
        raise MemberError(
            _("%(person)s is the only admin of this project: make somebody else an admin first.")
            % {"person": membership.user}
        )


@dataclass(frozen=True)
class Member:
    """A line of the list of members. `judgments` counts current verdicts."""

    membership: Membership
    judgments: int
    last_active: datetime | None
    awaits_password: bool
    may_have_link: bool


def member_list(project: Project, admin: User) -> list[Member]:
    """The members by username, as this admin may act on them, in three queries."""
    activity: dict[int, tuple[int, datetime]] = {
        row["annotator"]: (row["judgments"], row["last"])
        for row in Judgment.objects.filter(project=project)
        .values("annotator")
        .annotate(judgments=Count("pk", filter=Q(superseded_at__isnull=True)), last=Max("created_at"))
        .order_by()
    }
    linked = set(may_have_link(admin).filter(memberships__project=project).values_list("pk", flat=True))
    members = []
    for membership in project.memberships.select_related("user").order_by("user__username"):
        judgments, last = activity.get(membership.user_id, (0, None))
        members.append(
            Member(
                membership=membership,
                judgments=judgments,
                last_active=last or membership.user.last_login,
                awaits_password=awaits_password(membership.user),
                may_have_link=membership.user_id in linked,
            )
        )
    return members
