"""Work of workers as rows: they wait, are taken by one attempt, and end once."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Self, TypeVar

from django.conf import settings as site
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

J = TypeVar("J", bound=models.Model)


class JobQuerySet(models.QuerySet[J]):
    def live(self) -> Self:
        return self.filter(state__in=Job.LIVE)

    def silent(self, silence: timedelta) -> Self:
        """Return those whose worker has not told for so long that it is alive."""
        return self.filter(state=Job.State.RUNNING, heard_at__lt=Now() - silence)

    def give_up(self, why: str = "") -> int:
        """Fail these, which no worker will end."""
        sentence = why or _("It was begun several times, and never ended.")
        return self.update(state=Job.State.FAILED, error=sentence, finished_at=Now())

    def cancel(self) -> int:
        """Stop those that are not over. Return how many."""
        return self.live().update(state=Job.State.CANCELLED, finished_at=Now())


class FileJobQuerySet(JobQuerySet[J]):
    def with_expiry(self) -> Self:
        """Tell of each whether it `can_be_downloaded`, by the same clock as the download."""
        is_there = Case(When(can_be_downloaded(), then=Value(True)), default=Value(False))
        return self.annotate(can_be_downloaded=is_there)


class Job(models.Model):
    """Something that a worker makes. `attempt` is a fence: a worker that was replaced writes nothing more.

    `heard_at` is when its worker last told that it is alive. Silence is told by the database's time (`Now()`), as the
    clocks of web servers and workers may disagree.
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    LIVE = (State.QUEUED, State.RUNNING)

    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    attempt = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE

    def take(self, free: Q | None = None, **fields: Any) -> bool:
        """Take it for a new attempt if it is `free`, by default if it waits. Of several that try, one has it."""
        here = type(self)._default_manager.filter(pk=self.pk, attempt=self.attempt)
        free = Q(state=self.State.QUEUED) if free is None else free
        changes = {"state": self.State.RUNNING, "attempt": F("attempt") + 1, "heard_at": Now(), **fields}
        taken = here.filter(free).update(**changes)
        if taken:
            self.refresh_from_db(fields=[*changes])
        return taken == 1

    def tell(self, **progress: Any) -> bool:
        """Tell that its worker is alive, and how far it is. Return False if the job is no longer this attempt's."""
        return self._own().update(heard_at=Now(), **progress) == 1

    def cancel(self) -> bool:
        """Stop it. Return False if it was over already."""
        return type(self)._default_manager.filter(pk=self.pk).cancel() == 1

    def hand_back(self, **fields: Any) -> None:
        """Let it wait for another worker, if it is still this attempt's."""
        self._own().update(state=self.State.QUEUED, **fields)

    def end(self, state: str, **fields: Any) -> bool:
        """End it. Return False if the job is no longer this attempt's."""
        return self._own().update(state=state, heard_at=Now(), finished_at=Now(), **fields) == 1

    def _own(self) -> models.QuerySet[Any]:
        running = {"state": self.State.RUNNING, "attempt": self.attempt}
        return type(self)._default_manager.filter(pk=self.pk, **running)


class LostError(Exception):
    """A job was cancelled, or another attempt took its place."""


class FileJob(Job):
    """A file that a worker makes, which can be downloaded until it expires. It goes to Django's storage whole.

    Its name in the storage begins with its id, by which it is known before its row names it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_by = models.ForeignKey(
        site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    file = models.FileField(max_length=300, blank=True)
    filename = models.CharField(max_length=200, blank=True)
    size = models.PositiveBigIntegerField(default=0, help_text=_("In bytes."))
    sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    heard_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    can_be_downloaded = False  # until a query `with_expiry` says so

    objects = FileJobQuerySet.as_manager()  # type: ignore[misc] # django-stubs loses that it is the class's

    class Meta:
        abstract = True
        ordering = ["-created_at"]


def can_be_downloaded() -> Q:
    """Return the condition that a file is there and has not expired, by the database's clock."""
    return ~Q(file="") & Q(expires_at__gt=Now())


def is_whole() -> Q:
    """Return the condition that a file which is ready has a hash, a name and an end."""
    return ~Q(state="done") | (~Q(sha256="") & ~Q(filename="") & Q(expires_at__isnull=False))
