"""Rows for what reaches a project from outside: keys to the API, and uploaded files."""

from __future__ import annotations

import hashlib
import secrets

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.projects import Project


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ApiToken(models.Model):
    """A person's key to the API. The token itself is shown once; the database keeps its SHA-256.

    A token is 256 random bits, so a plain digest is as hard to invert as a slow one, and can be looked up.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60, help_text=_("What it is for, such as the name of a script."))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    start = models.CharField(max_length=12, editable=False, help_text=_("To recognize it by."))
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.start}…)"

    @classmethod
    def issue(cls, user: User, name: str) -> tuple[ApiToken, str]:
        """Return a new token of this person: the row, and the token to show."""
        token = f"wst_{secrets.token_urlsafe(32)}"
        return cls.objects.create(user=user, name=name, digest=token_digest(token), start=token[:8]), token


class Import(models.Model):
    """A file of prompts or pairs that an admin uploaded: checked whole, then brought in a few rows at a time.

    `position` is how many bytes of the file the present pass has read; it moves in the transaction that writes
    the rows, so that two windows on one import never bring a row in twice.
    """

    class State(models.TextChoices):
        MAPPING = "mapping", _("Waiting for its columns to be mapped")
        CHECKING = "checking", _("Being checked")
        REFUSED = "refused", _("Has errors")
        READY = "ready", _("Checked, ready to import")
        RUNNING = "running", _("Being imported")
        DONE = "done", _("Imported")
        CANCELLED = "cancelled", _("Cancelled")

    LIVE = (State.MAPPING, State.CHECKING, State.READY, State.RUNNING)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="imports")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    file = models.FileField(upload_to="imports/", max_length=300)
    original = models.FileField(
        upload_to="imports/",
        max_length=300,
        blank=True,
        help_text=_("The file as it came, where `file` is made of it: lines of UTF-8."),
    )
    filename = models.CharField(max_length=200, help_text=_("As it was called where it came from."))
    format = models.CharField(max_length=10)
    size = models.PositiveBigIntegerField(help_text=_("In bytes."))
    state = models.CharField(max_length=10, choices=State.choices, default=State.CHECKING)
    position = models.PositiveBigIntegerField(default=0)
    line = models.PositiveBigIntegerField(default=0)
    options = models.JSONField(
        default=dict, blank=True, help_text=_("How it is read, and what its rows become.")
    )
    counts = models.JSONField(default=dict)
    errors = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.filename} ({self.state})"


class RefusedRow(models.Model):
    """A row of an uploaded file that cannot be used, as it is in the file, for the person who corrects it."""

    upload = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="refused_rows")
    line = models.PositiveBigIntegerField()
    reason = models.TextField()
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.line}: {self.reason}"
