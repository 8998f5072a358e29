"""The rows of workers that are running, and of the last sweep for those that are not."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings as site
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class WorkerQuerySet(models.QuerySet["Worker"]):
    def present(self) -> WorkerQuerySet:
        """Return the workers that were seen lately and are not stopping."""
        return self.seen_within(timedelta(seconds=3 * site.HEARTBEAT_SECONDS)).filter(stopping=False)

    def seen_within(self, time: timedelta) -> WorkerQuerySet:
        """Return the workers that were seen so lately, stopping ones too."""
        # One that is ahead was written while the database's clock was.
        return self.filter(seen_at__range=(Now() - time, Now() + time))


class Worker(models.Model):
    """A Celery worker that is running, or was: its main process writes here every few seconds."""

    name = models.CharField(max_length=255, unique=True, help_text=_("Node name and process id."))
    queues = models.JSONField(default=list)
    seen_at = models.DateTimeField()
    stopping = models.BooleanField(default=False, help_text=_("Its rounds hand themselves back."))
    devices = models.JSONField(default=dict, blank=True, help_text=_("What it computes with."))

    objects = WorkerQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @classmethod
    def for_training(cls) -> list[Worker]:
        """Return the present workers that take rounds. They are few, so the queue names are read in Python."""
        return [worker for worker in cls.objects.present() if "training" in worker.queues]


class Sweep(models.Model):
    """The last sweep for silent workers, lost messages and expired claims: one row."""

    at = models.DateTimeField()
    by = models.CharField(max_length=255, help_text=_("The worker that did it."))

    def __str__(self) -> str:
        return f"{self.at} by {self.by}"

    @classmethod
    def last(cls) -> Sweep | None:
        return cls.objects.first()

    @classmethod
    def is_overdue(cls) -> bool:
        """Return whether so many sweeps were missed that no worker can be sweeping."""
        return cls.is_due(max(60, 6 * site.SWEEP_SECONDS))

    @classmethod
    def record(cls, by: str) -> None:
        cls.objects.update_or_create(pk=1, defaults={"at": Now(), "by": by})

    @classmethod
    def is_due(cls, seconds: float) -> bool:
        """Return whether there was no sweep for so long, by the database's clock, which may have been put back."""
        lately = timedelta(seconds=seconds)
        return not cls.objects.filter(at__range=(Now() - lately, Now() + lately)).exists()
