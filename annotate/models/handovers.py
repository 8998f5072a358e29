"""Invitations to a project and links to choose a password, as an admin hands them to a person.

Both end with the authority of their maker: they point at the maker's membership, and are gone with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils import timezone

from annotate.models.people import Membership, Role, User
from annotate.models.projects import Project

if TYPE_CHECKING:
    from django.db.models import QuerySet


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> QuerySet[Invitation]:
        """Keep those that can be accepted: their maker still looks after a project that is not archived."""
        return self.filter(by__role=Role.ADMIN, by__user__is_active=True, project__archived_at=None)


class Invitation(models.Model):
    """An offer to join a project, waiting for an answer.

    `name` is what the admin typed. `person` is the account that it meant at that moment, or None. An account made
    later under that name is not invited, and a member never is. Admins are never shown which of the two it is.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="invitations")
    name = models.CharField(max_length=254)
    person = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="invitations")
    role = models.CharField(max_length=12, choices=Role.choices)
    by = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="invitations_made")
    made_at = models.DateTimeField(default=timezone.now)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_invitation_per_name")]

    def __str__(self) -> str:
        return f"{self.name} ({self.role}) in {self.project}"


class PasswordLink(models.Model):
    """A link with which its holder chooses an account's password, once.

    The link holds 256 random bits, of which the database keeps the SHA-256. `by` is the maker's membership while it
    carries the link's authority; `state` tells what the account was when the link was made.
    """

    person = models.ForeignKey(User, on_delete=models.CASCADE, related_name="password_links")
    by = models.ForeignKey(Membership, null=True, on_delete=models.SET_NULL, related_name="links_made")
    maker_name = models.CharField(max_length=150)
    digest = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=64)
    opens_new_account = models.BooleanField(default=False)
    made_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"Link for {self.person} by {self.maker_name}"
