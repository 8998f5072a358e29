"""The rows of using a policy: trials and their answers, merged weights to download, endpoints that write."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.conf import settings as site
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Completion, Policy, Project
from annotate.models.jobs import FileJob, Job, is_whole
from annotate.text.chats import last_question


class Trial(models.Model):
    """A prompt that a reader tries on some policies. It is kept for a day, with what they wrote."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="trials")
    created_by = models.ForeignKey(
        site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    content = models.JSONField()
    sampling: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text=_("The chosen settings of sampling.")
    )
    tools: models.JSONField[list[dict[str, Any]] | None, list[dict[str, Any]] | None] = models.JSONField(
        null=True, blank=True, help_text=_("What the policies are told that they may call.")
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    sent_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("When the broker last took its message.")
    )

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["created_at"], name="trials_to_sweep")]

    def __str__(self) -> str:
        return f"trial {self.pk}"

    @property
    def question(self) -> str:
        """Return what the user said last."""
        return last_question(self.content)


class Answer(Job):
    """The text of one policy in a trial."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Writing")
        DONE = "done", _("Written")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Stopped")

    trial = models.ForeignKey(Trial, on_delete=models.CASCADE, related_name="answers")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="trial_answers")
    position = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    phase = models.CharField(max_length=20, blank=True)
    share = models.FloatField(default=0, help_text=_("Of the longest text that it may write."))
    text = models.TextField(blank=True, help_text=_("What is written so far, until it is done."))
    finish_reason = models.CharField(
        max_length=10, choices=Completion.FinishReason.choices, default=Completion.FinishReason.UNKNOWN
    )
    sample: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text=_("What a line of samples.jsonl says besides.")
    )
    worker = models.CharField(max_length=255, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    words_at = models.DateTimeField(
        null=True, blank=True, help_text=_("When the first words could be shown.")
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["trial", "policy"], name="one_answer_per_policy"),
            models.UniqueConstraint(fields=["trial", "position"], name="one_answer_per_place"),
        ]

    def __str__(self) -> str:
        return f"{self.policy} in {self.trial}"

    @property
    def seconds(self) -> float | None:
        """Return how long it took to write, once it is written."""
        return self._seconds_until(self.finished_at)

    @property
    def seconds_to_words(self) -> float | None:
        """Return how long it took until its first words could be shown, once they could."""
        return self._seconds_until(self.words_at)

    def _seconds_until(self, moment: datetime | None) -> float | None:
        if self.started_at is None or moment is None:
            return None
        return (moment - self.started_at).total_seconds()

    @property
    def end_note(self) -> str:
        """Return the note that it was cut by its limit of tokens, as that of a completion."""
        made = Completion(finish_reason=self.finish_reason, sampling=self.sample.get("sampling", {}))
        return made.end_note


class MergedWeights(FileJob):
    """The weights of a policy merged into its base model, as one file."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Being merged")
        DONE = "done", _("Ready")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    class Precision(models.TextChoices):
        BASE = "base", _("As the base model")
        FLOAT16 = "float16", "float16"
        FLOAT32 = "float32", "float32"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="merged_weights")
    precision = models.CharField(
        max_length=10,
        choices=Precision.choices,
        default=Precision.BASE,
        db_default=Precision.BASE,
        help_text=_("As it was asked for."),
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    phase = models.CharField(max_length=20, blank=True)
    share = models.FloatField(default=0)
    file = models.FileField(upload_to="merged/", max_length=300, blank=True)
    dtype = models.CharField(
        max_length=20, blank=True, help_text=_("As the weights are, once they are ready.")
    )
    worker = models.CharField(max_length=255, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(FileJob.Meta):
        verbose_name_plural = "merged weights"
        constraints = [
            models.CheckConstraint(condition=is_whole(), name="ready_weights_have_a_hash"),
            models.UniqueConstraint(
                fields=["policy", "precision"],
                condition=Q(state__in=["queued", "running"]),
                name="one_live_merge_per_precision",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.filename or 'merged weights'} ({self.state})"

    @property
    def wider(self) -> list[str]:
        """Return the precisions that keep more of a policy than this file, the smaller one first."""
        found = {
            "bfloat16": [self.Precision.FLOAT16, self.Precision.FLOAT32],
            "float16": [self.Precision.FLOAT32],
        }
        return [str(one) for one in found.get(self.dtype, [])]


class Endpoint(models.Model):
    """A server with OpenAI's interface that writes as a policy. Its key is in the site's environment, never here."""

    policy = models.OneToOneField(Policy, on_delete=models.CASCADE, related_name="endpoint")
    url = models.CharField(max_length=500, help_text=_("Up to /v1, such as https://api.example.com/v1."))
    model = models.CharField(max_length=200, help_text=_("As the server calls it."))
    sampling: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True, help_text=_("Settings that lie over those of the project.")
    )

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"
