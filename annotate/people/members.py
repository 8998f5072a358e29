"""Members of a project: list them, change a role, remove. They come by `invitations.py`.

Removing a member ends their membership and returns what they hold. Their judgments stay, with their name. A project
always keeps an admin, even when two admins act on each other at once.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Judgment, Membership, Project, Role, User, is_current
from annotate.projects import trail
from annotate.queueing import queue


def awaits_password(person: User) -> bool:
    """Return whether the account was made by a project's admin and not signed in with yet."""
    return person.is_active and person.last_login is None and not person.has_usable_password()


def judged_or_members(project: Project) -> QuerySet[User]:
    """Return the members of the project, and behind them whose judgments it has: who left, and whom files named."""
    is_member = Exists(Membership.objects.filter(project=project, user=OuterRef("pk")))
    has_judged = Exists(Judgment.objects.filter(project=project, annotator=OuterRef("pk")))
    found = User.objects.filter(is_member | has_judged).annotate(is_former=~is_member)
    return found.order_by("is_former", F("imported_into").asc(nulls_first=True), "external_name", "username")


def change_role(by: Membership, membership_id: int, role: str) -> Membership:
    with transaction.atomic():
        membership = _locked(by.project, membership_id)
        if role != Role.ADMIN:
            _keep_an_admin(membership)
        elif awaits_password(membership.user):
            raise RefusalError(
                _("%(person)s has not signed in yet: make them an admin once they have.")
                % {"person": membership.user}
            )
        before, membership.role = membership.role, role
        membership.save(update_fields=["role"])
        if before != role:
            trail.record(
                trail.Verb.ROLE,
                by.user,
                project=by.project,
                subject=membership.user,
                before=before,
                role=role,
            )
        return membership


def remove_member(by: Membership, membership_id: int) -> User:
    with transaction.atomic():
        membership = _locked(by.project, membership_id)
        _keep_an_admin(membership)
        membership.delete()
        trail.record(
            trail.Verb.REMOVED, by.user, project=by.project, subject=membership.user, role=membership.role
        )
    # Afterwards, one claim at a time: within a transaction it would meet the verdict that is being sent.
    queue.leave(by.project, membership.user)
    return membership.user


def _locked(project: Project, membership_id: int) -> Membership:
    """Return the membership, with the project's admins locked so that the last two cannot leave at the same time."""
    members = list(
        Membership.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(Q(pk=membership_id) | Q(role=Role.ADMIN), project=project)
        .order_by("pk")
    )
    for membership in members:
        if membership.pk == membership_id:
            return membership
    raise RefusalError(_("That person is no longer a member of this project."))


def _keep_an_admin(membership: Membership) -> None:
    others = Membership.objects.filter(project=membership.project_id, role=Role.ADMIN).exclude(
        pk=membership.pk
    )
    if membership.role == Role.ADMIN and not others.exists():
        raise RefusalError(
            _("%(person)s is the only admin of this project: make another member an admin first.")
            % {"person": membership.user}
        )


@dataclass(frozen=True)
class Member:
    """A line of the list of members. `judgments` counts current verdicts."""

    membership: Membership
    judgments: int
    last_active: datetime | None
    awaits_password: bool
    can_have_link: bool
    awaits_qualification: bool
    is_only_admin: bool


def list_members(project: Project, linkable: QuerySet[User]) -> list[Member]:
    """Return the members by username, in three queries. `linkable` are the people who may have a password link."""
    activity: dict[int, tuple[int, datetime]] = {
        row["annotator"]: (row["judgments"], row["last"])
        for row in Judgment.objects.filter(project=project)
        .values("annotator")
        .annotate(judgments=Count("pk", filter=is_current()), last=Max("created_at"))
        .order_by()
    }
    linked = set(linkable.filter(memberships__project=project).values_list("pk", flat=True))
    memberships = list(project.memberships.select_related("user").order_by("user__username"))
    admins = [membership for membership in memberships if membership.role == Role.ADMIN]
    members = []
    for membership in memberships:
        judgments, last = activity.get(membership.user_id, (0, None))
        members.append(
            Member(
                membership=membership,
                judgments=judgments,
                last_active=last or membership.user.last_login,
                awaits_password=awaits_password(membership.user),
                can_have_link=membership.user_id in linked,
                awaits_qualification=bool(project.qualification_size)
                and membership.role != Role.RESEARCHER
                and membership.qualified_at is None,
                is_only_admin=admins == [membership],
            )
        )
    return members
