"""The rows of dry runs: what a round would take, and what a base model is."""

from __future__ import annotations

from django.conf import settings as site
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Policy, Project


class DryRun(models.Model):
    """A dry run of a round that is not started, or a look at a base model: asked for on a page, answered by a worker.

    A project has one that is not answered. Asking again replaces it.
    """

    class Kind(models.TextChoices):
        ROUND = "round", _("Training and sampling")
        WRITING = "writing", _("Sampling alone")
        MODEL = "model", _("The base model alone")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting for a worker")
        RUNNING = "running", _("Measuring")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    OPEN = (State.WAITING, State.RUNNING)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="estimates")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    settings = models.JSONField(default=dict, help_text=_("What was chosen, as a round keeps it."))
    begin = models.ForeignKey(
        Policy,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text=_("The policy that was chosen to start from, or to write."),
    )
    against = models.ForeignKey(
        Policy,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text=_("The policy that was chosen to compare with."),
    )
    result = models.JSONField(default=dict, blank=True, help_text=_("What the engine's plan says."))
    reason = models.TextField(blank=True, help_text=_("Why it failed, in one sentence."))
    worker = models.CharField(max_length=255, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(state__in=["waiting", "running"]),
                name="one_open_estimate_per_project",
            ),
            models.CheckConstraint(
                condition=~Q(state="failed") | ~Q(reason=""), name="failed_estimates_say_why"
            ),
        ]

    def __str__(self) -> str:
        return f"estimate {self.pk} of {self.project.slug}"

    def get_absolute_url(self) -> str:
        return reverse("estimate", args=[self.project.slug, self.pk])

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN
