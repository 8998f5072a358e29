"""Verdicts on comparisons, with their history, and flags for an admin."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.comparisons import Comparison
from annotate.models.people import User
from annotate.models.projects import Project
from annotate.models.texts import Completion


def is_current(path: str = "") -> Q:
    """Return the condition that a judgment is its annotator's present one. `path` leads to the judgment."""
    return Q(**{f"{path}superseded_at__isnull": True})


class Moment(NamedTuple):
    """A moment whose judgments are asked for later, with the id of the `newest` judgment of all that was there.

    An import may bring older ones meanwhile, which were not there yet. Without `newest` they count.
    """

    time: datetime
    newest: int | None = None

    def was_there(self, path: str = "") -> Q:
        """Return the condition that a judgment was there. `path` leads to the judgment.

        People's are told by their times alone: one that is being edited at that moment has its new id a little later.
        """
        there = Q(**{f"{path}created_at__lte": self.time})
        if self.newest is not None:
            there &= Q(**{f"{path}import_batch": ""}) | Q(**{f"{path}pk__lte": self.newest})
        return there

    def stood(self, path: str = "") -> Q:
        """Return the condition that it was there, and its annotator's present one."""
        return self.was_there(path) & (is_current(path) | Q(**{f"{path}superseded_at__gt": self.time}))


class JudgmentQuerySet(models.QuerySet["Judgment"]):
    def current(self) -> JudgmentQuerySet:
        """Leave out the history: what was edited or undone."""
        return self.filter(is_current())

    def standing_at(self, moment: Moment) -> JudgmentQuerySet:
        """Keep those that were current then."""
        return self.filter(moment.stood())

    def since(self, start: datetime) -> JudgmentQuerySet:
        """Keep the work done from `start` on: a revision counts when the comparison was first judged."""
        # No first time is later than its row's, and that one has the index.
        return self.filter(created_at__gte=start, first_at__gte=start)

    def by_people(self) -> JudgmentQuerySet:
        """Leave out the imported ones, which were given elsewhere."""
        return self.filter(import_batch="")

    def opinions(self) -> JudgmentQuerySet:
        """Leave out skips, which say nothing about the completions."""
        return self.exclude(verdict=Judgment.Verdict.SKIP)


class Judgment(models.Model):
    """One annotator's verdict on a comparison, naming the preferred completion by id, never a side.

    `superseded_at` marks history: an edit writes a new row and supersedes the old one, an undo only supersedes. It
    carries on what the edit was not about: the reading time, its mark, and `first_at`. `created_at` is the time of
    this row.

    An imported judgment was given elsewhere: `import_batch` says what brought it in, and its annotator is one that a
    file named. Its times are the file's, and its strength is null where the file does not say.
    """

    class Verdict(models.TextChoices):
        PREFER = "prefer", _("One is better")
        TIE = "tie", _("Tie")
        BOTH_BAD = "both_bad", _("Both bad")
        SKIP = "skip", _("Skipped")

    OPINIONS = (Verdict.PREFER, Verdict.TIE, Verdict.BOTH_BAD)  # all but a skip

    class Strength(models.IntegerChoices):
        SLIGHTLY = 1, _("Slightly better")
        BETTER = 2, _("Better")
        MUCH = 3, _("Much better")

    class SkipReason(models.TextChoices):
        NOT_MINE = "not_mine", _("Not my language or field")

    # As with claims: no index that is not read, and no foreign key that follows from the comparison's.
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="judgments", db_index=False, db_constraint=False
    )
    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="judgments")
    annotator = models.ForeignKey(User, on_delete=models.RESTRICT, related_name="judgments", db_index=False)
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    preferred = models.ForeignKey(
        Completion,
        null=True,
        blank=True,
        on_delete=models.RESTRICT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    strength = models.PositiveSmallIntegerField(null=True, blank=True, choices=Strength.choices)
    skip_reason = models.CharField(max_length=10, blank=True, choices=SkipReason.choices)
    left = models.ForeignKey(
        Completion, on_delete=models.RESTRICT, related_name="+", db_index=False, db_constraint=False
    )
    right = models.ForeignKey(
        Completion, on_delete=models.RESTRICT, related_name="+", db_index=False, db_constraint=False
    )
    sides_known = models.BooleanField(
        default=True, editable=False, help_text=_("Whether left and right are as the annotator saw them.")
    )
    import_batch = models.CharField(
        max_length=60,
        blank=True,
        default="",
        editable=False,
        help_text=_("What brought it in, such as “import 3”. Empty for a verdict given here."),
    )
    token = models.UUIDField(unique=True, editable=False)
    reasons = models.JSONField(default=list, blank=True)
    criteria = models.JSONField(default=dict, blank=True)
    rationale = models.TextField(blank=True)
    seconds = models.FloatField(
        null=True, blank=True, help_text=_("Reading, from first sight to verdict: all looks together.")
    )
    late = models.BooleanField(
        default=False, help_text=_("Arrived after its lease, when its place may have been given away.")
    )
    too_fast = models.BooleanField(default=False)
    replaces = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="replaced_by"
    )
    first_at = models.DateTimeField(
        default=timezone.now,
        editable=False,
        help_text=_("When this annotator first judged the comparison."),
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    superseded_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = JudgmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "annotator"],
                condition=is_current(),
                name="one_current_judgment_per_person",
            ),
            models.CheckConstraint(
                condition=Q(
                    Q(strength__isnull=False, strength__in=[1, 2, 3])
                    | (Q(strength__isnull=True) & ~Q(import_batch="")),
                    verdict="prefer",
                    preferred__isnull=False,
                )
                | (~Q(verdict="prefer") & Q(preferred__isnull=True, strength__isnull=True)),
                name="a_preference_names_its_completion",
            ),
            models.CheckConstraint(
                condition=Q(sides_known=True) | ~Q(import_batch=""), name="only_imported_sides_are_unknown"
            ),
            models.CheckConstraint(
                condition=Q(skip_reason="") | Q(verdict="skip"), name="only_skips_have_a_skip_reason"
            ),
            models.CheckConstraint(
                condition=Q(preferred__isnull=True) | Q(preferred=F("left")) | Q(preferred=F("right")),
                name="a_preference_is_for_what_was_shown",
            ),
        ]
        indexes = [
            models.Index(fields=["project", "annotator", "-created_at"], name="one_persons_judgments"),
            models.Index(
                fields=["project", "import_batch"], condition=~Q(import_batch=""), name="imported_judgments"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.annotator}: {self.verdict} on {self.comparison_id}"

    @property
    def is_imported(self) -> bool:
        return bool(self.import_batch)


class FlagQuerySet(models.QuerySet["Flag"]):
    def open(self) -> FlagQuerySet:
        """Keep those that no admin has resolved."""
        return self.filter(resolved_at=None)


class Flag(models.Model):
    """A comparison that an annotator wants an admin to look at."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="flags")
    annotator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="flags")
    note = models.TextField(max_length=2000, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = FlagQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "annotator"],
                condition=Q(resolved_at__isnull=True),
                name="one_open_flag_per_person",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.annotator} flagged {self.comparison_id}"
