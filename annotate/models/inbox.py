"""Rows for what reaches a project from outside: keys to the API, answers to its requests, and uploaded files."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.projects import Project


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ApiToken(models.Model):
    """A person's key to the API. The token itself is shown once; the database keeps its SHA-256.

    A token is 256 random bits, so a plain digest is as hard to invert as a slow one, and can be looked up. It opens
    no more than its person may do. Its `scope` may narrow that, in one `project` or in all of them.
    """

    class Scope(models.TextChoices):
        READ = "read", _("Read")
        JUDGE = "judge", _("Read and judge")
        ADMIN = "admin", _("Everything that you may do")

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60, help_text=_("What it is for, such as the name of a script."))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    start = models.CharField(max_length=12, editable=False, help_text=_("To recognize it by."))
    # A token that was made before there were scopes keeps what it could do.
    scope = models.CharField(
        max_length=5, choices=Scope.choices, default=Scope.ADMIN, db_default=Scope.ADMIN, editable=False
    )
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="api_tokens", editable=False
    )
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(scope__in=["read", "judge", "admin"]), name="tokens_have_a_known_scope"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.start}…)"

    @classmethod
    def issue(
        cls,
        user: User,
        name: str,
        scope: str = Scope.ADMIN,
        *,
        project: Project | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiToken, str]:
        """Return a new token of this person: the row, and the token to show."""
        token = f"wst_{secrets.token_urlsafe(32)}"
        row = cls.objects.create(
            user=user,
            name=name,
            digest=token_digest(token),
            start=token[:8],
            scope=scope,
            project=project,
            expires_at=expires_at,
        )
        return row, token

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    def includes(self, scope: str) -> bool:
        """Return whether it may do what needs this scope. Each scope includes those before it."""
        order = self.Scope.values
        return order.index(self.scope) >= order.index(scope)


class StoredAnswerQuerySet(models.QuerySet["StoredAnswer"]):
    def expired(self) -> StoredAnswerQuerySet:
        return self.filter(created_at__lt=timezone.now() - StoredAnswer.KEPT)


class StoredAnswer(models.Model):
    """The answer to a request that named a key, kept for a day: sent again, the request is answered and not repeated.

    It is written in the transaction of what the request did, so that there is never one without the other.
    """

    KEPT = timedelta(days=1)

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200, help_text=_("As the request's header named it."))
    request = models.CharField(max_length=64, help_text=_("SHA-256 of its method, address and body."))
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False, db_index=True)

    objects = StoredAnswerQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.key}"


class Import(models.Model):
    """A file of prompts or pairs that an admin uploaded: checked whole, then brought in a few rows at a time.

    `position` is how many bytes of the file the present pass has read. It moves in the transaction that writes the
    rows, so that two windows on one import never bring a row in twice.
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
