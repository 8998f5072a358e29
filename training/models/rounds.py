"""The rows of rounds: their settings, progress, history and metrics.

`rounds/state_machine.py` is the only writer of Round.state and of RoundEvent.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db import models
from django.db.models import Case, Count, F, Q, When
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Comparison, Moment, Policy, Project, Snapshot
from training.models.files import StoredFile

MOST_THINGS = 2**53  # a float holds each whole number below it


class RoundQuerySet(models.QuerySet["Round"]):
    def open(self) -> RoundQuerySet:
        """Return the rounds that run or wait for a decision: at most one in a project."""
        return self.filter(state__in=[*Round.LIVE, Round.State.READY])

    def gate_totals(self) -> dict[int, int]:
        """Map each round's id to its number of gate comparisons, without those that are withdrawn or set aside.

        A rejection withdraws what is not judged in full. Those still count, as they did before it.
        """
        counts = Q(gate__open=True) | Q(gate__claimed__gt=0) | Q(gate__judged__gte=F("gate__needed"))
        total = Case(
            When(state=Round.State.REJECTED, then=Count("gate")), default=Count("gate", filter=counts)
        )
        return dict(self.order_by().annotate(total=total).values_list("pk", "total"))


class Round(models.Model):
    """One turn of the loop: snapshot -> training -> new policy -> sampling -> new comparisons.

    A round that does not train (`trains`) is sampling alone: its starting policy writes comparisons, as the first of
    a project. It has no snapshot and makes no policy, so nothing is decided about it.

    A round of many judgments is queued without its snapshot, which its worker takes first. The snapshot holds what was
    judged until `judged_until`, whenever that is.

    `attempts` counts how often a worker took the round. It is also the fence: a worker writes only while it has the
    latest number, so one that was thought dead cannot disturb its successor.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        TRAINING = "training", _("Training")
        SAMPLING = "sampling", _("Sampling")
        READY = "ready", _("Ready for a decision")
        PROMOTED = "promoted", _("Promoted")
        REJECTED = "rejected", _("Rejected")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        WRITTEN = "written", _("Written")  # the end of a round that only writes

    FREEZING = "freezing"  # the phase before a worker has frozen the pairs
    RUNNING = (State.TRAINING, State.SAMPLING)  # a worker has it
    LIVE = (State.QUEUED, *RUNNING)  # can be cancelled, and can fail
    DECIDED = (State.PROMOTED, State.REJECTED)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField(help_text=_("Counts from 1 in each project."))
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    trains = models.BooleanField(
        default=True, editable=False, help_text=_("Otherwise its starting policy only writes.")
    )
    snapshot = models.ForeignKey(
        Snapshot, null=True, blank=True, on_delete=models.RESTRICT, related_name="rounds"
    )
    start_policy = models.ForeignKey(Policy, on_delete=models.RESTRICT, related_name="rounds_started")
    result_policy = models.OneToOneField(
        Policy, null=True, blank=True, on_delete=models.RESTRICT, related_name="round"
    )
    against = models.ForeignKey(
        Policy,
        null=True,
        blank=True,
        on_delete=models.RESTRICT,
        related_name="+",
        help_text=_("The policy that its gate, or its writing, compares with, if not the usual one."),
    )
    retrains = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="retrained_by",
        editable=False,
        help_text=_("The round that this one does over, without what was forgotten."),
    )
    settings = models.JSONField(default=dict, help_text=_("Everything that was chosen, defaults filled in."))
    summary = models.JSONField(default=dict, blank=True, help_text=_("What training and sampling reported."))
    fresh = models.ManyToManyField(Comparison, related_name="fresh_in_rounds", blank=True)
    gate = models.ManyToManyField(Comparison, related_name="gate_of_rounds", blank=True)

    folder = models.CharField(
        max_length=200, unique=True, editable=False, help_text=_("The run directory, below var/.")
    )
    attempts = models.PositiveIntegerField(default=0, editable=False)
    losses = models.PositiveSmallIntegerField(
        default=0,
        editable=False,
        help_text=_("How often in a row its worker went silent before it got any further."),
    )
    worker = models.CharField(max_length=255, blank=True, editable=False)
    processes = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text=_("Processes that train side by side, as its first worker chose; 0 before that."),
    )
    heartbeat_at = models.DateTimeField(null=True, blank=True, editable=False)
    gate_level = models.FloatField(
        null=True,
        blank=True,
        editable=False,
        help_text=_("The chance that its gate calls a policy better that is not."),
    )
    holds_forgotten = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text=_("Its policy was trained on what was forgotten since."),
    )
    enqueued_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("When the broker last took its message.")
    )
    phase = models.CharField(max_length=40, blank=True, editable=False)
    step = models.PositiveIntegerField(default=0, editable=False)
    total_steps = models.PositiveIntegerField(default=0, editable=False)
    seconds_left = models.FloatField(null=True, blank=True, editable=False)
    reason = models.TextField(blank=True, editable=False, help_text=_("Why it failed, in one sentence."))

    created_by = models.ForeignKey(
        site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_judgment = models.BigIntegerField(
        null=True, editable=False, help_text=_("The id of the newest judgment of all, when it was started.")
    )
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RoundQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="one_round_per_number"),
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(state__in=["queued", "training", "sampling", "ready"]),
                name="one_open_round_per_project",
            ),
            models.CheckConstraint(
                condition=Q(snapshot__isnull=False)
                | Q(trains=False)
                | Q(state__in=["queued", "cancelled", "failed"])
                | Q(state="training", phase="freezing"),
                name="rounds_that_train_have_a_snapshot",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["ready", "promoted", "rejected"]) | Q(result_policy__isnull=False),
                name="finished_rounds_have_a_policy",
            ),
            models.CheckConstraint(
                condition=Q(trains=True) & ~Q(state="written")
                | Q(trains=False, snapshot__isnull=True, result_policy__isnull=True),
                name="rounds_that_only_write_make_no_policy",
            ),
        ]
        indexes = [
            # The sweep's look-up.
            models.Index(
                fields=["heartbeat_at"],
                condition=Q(state__in=["queued", "training", "sampling"]),
                name="rounds_to_look_after",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number} of {self.project.slug}"

    def get_absolute_url(self) -> str:
        return reverse("round", args=[self.project.slug, self.number])

    def chosen(self, part: str) -> dict[str, Any]:
        """Return a part of the settings, such as `config`; empty where an archive brings something else."""
        found = self.settings.get(part) if isinstance(self.settings, dict) else None
        return found if isinstance(found, dict) else {}

    def report(self, verb: str) -> dict[str, Any]:
        """Return what a verb of the engine reported; empty for none, and for what an archive brings that is none."""
        found = self.summary.get(verb) if isinstance(self.summary, dict) else None
        return found if isinstance(found, dict) else {}

    def reported_number(self, path: str) -> float | None:
        """Return a number that a verb reported, by its path such as `train.pairs`. None if there is none."""
        found: Any = self.summary
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return found if is_number and 0 <= found <= sys.float_info.max else None

    def reported_count(self, path: str) -> int | None:
        """Return the same for a number of things: a whole one that a float holds exactly."""
        found: Any = self.reported_number(path)
        return found if isinstance(found, int) and found < MOST_THINGS else None

    @property
    def opponent(self) -> Policy | None:
        """Return the policy that writes the other side of its comparisons; None where one policy writes both."""
        return self.against or (self.start_policy if self.trains else None)

    @property
    def origin(self) -> Round:
        """Return the round whose start says what it trains on: itself, or the one that it does over.

        Versions that noted no `last_judgment` took the direct one, even if that does another one over.
        """
        if self.retrains is None:
            return self
        return self.retrains if self.last_judgment is None else self.retrains.origin

    @property
    def moment(self) -> Moment:
        """Return the moment whose judgments it trains on."""
        origin = self.origin
        return Moment(origin.created_at, origin.last_judgment)

    @property
    def judged_until(self) -> datetime:
        """Return the time of that moment."""
        return self.moment.time

    @property
    def lacks_snapshot(self) -> bool:
        """Return whether a worker has yet to freeze its pairs."""
        return self.trains and self.snapshot_id is None

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE

    @property
    def is_running(self) -> bool:
        return self.state in self.RUNNING

    @property
    def gate_total(self) -> int:
        return Round.objects.filter(pk=self.pk).gate_totals()[self.pk]

    @property
    def gate_judged(self) -> int:
        return self.gate.finished().count()

    @property
    def can_resume(self) -> bool:
        return self.state == self.State.FAILED and not self.was_refused

    @property
    def was_refused(self) -> bool:
        """Return whether its worker found pairs that it cannot train on, as any other attempt would."""
        return self.lacks_snapshot and self.report("freeze").get("refused") is True

    @property
    def run_dir(self) -> Path:
        return Path(site.VAR) / self.folder

    @property
    def unseen(self) -> str:
        """Return the folder below var/ that a worker wrote and this machine does not see; empty if it does."""
        has_ended_well = self.state in (*self.DECIDED, self.State.READY, self.State.WRITTEN)
        if not has_ended_well and self.phase in ("", self.FREEZING):  # there is no folder anywhere yet
            return ""
        wanted = f"{self.folder}/adapter" if self.result_policy_id else self.folder
        if (Path(site.VAR) / wanted).is_dir():
            return ""
        stored = StoredFile.objects.filter(folder=self.folder)
        if self.result_policy_id:
            stored = stored.filter(path__startswith="adapter/")
        elif site.STORES_RUNS and self.is_live:  # its worker puts them there, if it has not yet
            return ""
        return "" if stored.exists() else wanted


class RoundEvent(models.Model):
    """One line of a round's history: a move from state to state, or what else people did to it."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="events")
    from_state = models.CharField(
        max_length=10, choices=Round.State.choices, blank=True, help_text=_("Empty when the round began.")
    )
    to_state = models.CharField(max_length=10, choices=Round.State.choices)
    message = models.TextField(blank=True)
    by = models.ForeignKey(site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.round}: {self.from_state} -> {self.to_state}"


class Metric(models.Model):
    """One optimizer step's line of metrics.jsonl. A resumed run writes the steps it repeats again."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    values: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()

    class Meta:
        ordering = ["step"]
        constraints = [models.UniqueConstraint(fields=["round", "step"], name="one_metric_per_step")]

    def __str__(self) -> str:
        return f"{self.round}, step {self.step}"
