"""Frozen sets of preference pairs, and files that are prepared to be downloaded."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.comparisons import Comparison
from annotate.models.jobs import FileJob, Job, is_whole
from annotate.models.judgments import Judgment
from annotate.models.people import User
from annotate.models.projects import Project
from annotate.models.texts import Completion

KEPT = timedelta(days=3)  # how long a prepared file can be downloaded


class Snapshot(models.Model):
    """A frozen, content-addressed set of preference pairs and ratings. Immutable, but for what must be forgotten.

    The digest is taken over the ids of comparisons and judgments, too. A project that moved to another database has
    other ids there: `comparison_shift` and `judgment_shift` are how much higher they are than those of the digest.
    `forgotten` counts the pairs and ratings that were removed since, as they held what was forgotten: the digest stays
    as a name.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="snapshots")
    digest = models.CharField(max_length=64, help_text=_("SHA-256 of its pairs, in canonical JSON Lines."))
    settings = models.JSONField(default=dict, help_text=_("How judgments became pairs."))
    counts = models.JSONField(
        default=dict, help_text=_("How many judgments became how many pairs, and why not.")
    )
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    comparison_shift = models.BigIntegerField(default=0, db_default=0, editable=False)
    judgment_shift = models.BigIntegerField(default=0, db_default=0, editable=False)
    forgotten = models.PositiveIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text=_("Pairs and ratings removed, as they held what was forgotten."),
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "digest"], name="one_snapshot_per_content"),
        ]

    def __str__(self) -> str:
        return self.digest[:12]


class SnapshotPair(models.Model):
    """A preference pair in a snapshot, with the judgments that it came from. Immutable."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="pairs")
    comparison = models.ForeignKey(Comparison, on_delete=models.RESTRICT, related_name="snapshot_pairs")
    chosen = models.ForeignKey(Completion, on_delete=models.RESTRICT, related_name="+", db_index=False)
    rejected = models.ForeignKey(Completion, on_delete=models.RESTRICT, related_name="+", db_index=False)
    label = models.FloatField(default=1.0, help_text=_("Probability that chosen is the better one."))
    margin = models.FloatField(default=0.0, help_text=_("Mean strength of preference, 0 to 3."))
    weight = models.FloatField(default=1.0)
    held_out = models.BooleanField(default=False)
    judgments = models.ManyToManyField(Judgment, related_name="snapshot_pairs")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["snapshot", "comparison"], name="one_pair_per_comparison"),
            models.CheckConstraint(condition=Q(label__gte=0, label__lte=1), name="labels_are_probabilities"),
            models.CheckConstraint(condition=Q(weight__gt=0), name="weights_are_positive"),
            models.CheckConstraint(condition=~Q(chosen=F("rejected")), name="pairs_have_two_completions"),
        ]
        # The checks of foreign keys for a completion that is deleted.
        indexes = [
            models.Index(fields=["chosen"], name="pairs_by_chosen"),
            models.Index(fields=["rejected"], name="pairs_by_rejected"),
        ]

    def __str__(self) -> str:
        return f"pair of comparison {self.comparison_id}"


class SnapshotRating(models.Model):
    """A completion that is rated by itself in a snapshot, with the judgments that it came from. Immutable.

    “Both bad” says of each of the two completions that it is undesirable. The loss `kto` learns from that.
    """

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="ratings")
    comparison = models.ForeignKey(Comparison, on_delete=models.RESTRICT, related_name="snapshot_ratings")
    completion = models.ForeignKey(Completion, on_delete=models.RESTRICT, related_name="+", db_index=False)
    desirable = models.BooleanField()
    weight = models.FloatField(default=1.0)
    held_out = models.BooleanField(default=False)
    judgments = models.ManyToManyField(Judgment, related_name="snapshot_ratings")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["snapshot", "comparison", "completion"], name="one_rating_per_completion"
            ),
            models.CheckConstraint(condition=Q(weight__gt=0), name="weights_of_ratings_are_positive"),
        ]
        indexes = [models.Index(fields=["completion"], name="ratings_by_completion")]

    def __str__(self) -> str:
        return f"rating of completion {self.completion_id}"


class SnapshotJob(Job):
    """A snapshot that a worker takes, as its project is large. `settings` say how judgments become pairs.

    Those who ask for the same while it is under way are given this one: `settings_key` is a hash of the settings.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Being taken")
        DONE = "done", _("Frozen")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="snapshot_jobs")
    settings = models.JSONField(default=dict)
    settings_key = models.CharField(max_length=64, editable=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    heard_at = models.DateTimeField(default=timezone.now, editable=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    share = models.FloatField(default=0, help_text=_("How much of it is done, from 0 to 1."))
    snapshot = models.ForeignKey(Snapshot, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        verbose_name = "snapshot job"
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "settings_key"],
                condition=Q(state__in=Job.LIVE),
                name="one_live_job_per_snapshot",
            ),
        ]

    def __str__(self) -> str:
        return f"snapshot of {self.project_id} ({self.state})"


class Export(FileJob):
    """A file of a project's rows. `query` is what the page's form was given."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Being written")
        DONE = "done", _("Ready")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="exports")
    query = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    expected = models.PositiveBigIntegerField(null=True, help_text=_("Rows, as they were counted first."))
    rows = models.PositiveBigIntegerField(default=0, help_text=_("Rows written so far."))
    file = models.FileField(upload_to="exports/", max_length=300, blank=True)

    class Meta(FileJob.Meta):
        constraints = [models.CheckConstraint(condition=is_whole(), name="ready_exports_have_a_hash")]
        indexes = [
            models.Index(fields=["expires_at"], condition=~Q(file=""), name="exports_with_a_file"),
        ]

    def __str__(self) -> str:
        return f"{self.filename or 'export'} ({self.state})"
