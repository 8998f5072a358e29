"""People, and their roles in projects."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.projects import Project


class User(AbstractUser):
    """A person. `preferences` holds what they chose for themselves: remapped keys, theme, scroll together."""

    preferences = models.JSONField(default=dict, blank=True)


class Role(models.TextChoices):
    ANNOTATOR = "annotator", _("Annotator")
    ADMIN = "admin", _("Admin")
    RESEARCHER = "researcher", _("Researcher")


class Membership(models.Model):
    """A person's role in a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    qualified_at = models.DateTimeField(null=True, blank=True, editable=False)
    qualifies_from = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("Gold judged from here on counts for qualifying.")
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_membership_per_person")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role}) in {self.project}"
