"""A project: what is judged, how, and by how many."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.aspects import Aspect, read_aspects


class TextView(models.TextChoices):
    """The ways to show the texts of a comparison."""

    RENDERED = "rendered", _("Formatted")
    RAW = "raw", _("Raw")
    DIFFERENCES = "differences", _("Differences")


class Project(models.Model):
    """A set of prompts judged by a team, and the policies that their judgments sharpen."""

    class GoldFeedback(models.TextChoices):
        SILENT = "silent", _("Silent")
        SHOWN = "shown", _("Shown after each gold comparison")

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    guidelines = models.TextField(blank=True, help_text=_("Markdown. Annotators can open it at any time."))
    licence = models.CharField(
        max_length=60,
        blank=True,
        db_default="",
        help_text=_("Under which the data is given on, as the Hugging Face hub names it, such as cc-by-4.0."),
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    judgments_needed = models.PositiveSmallIntegerField(
        _("judgments per comparison"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text=_("How many annotators judge each comparison, independently."),
    )
    lease_minutes = models.PositiveSmallIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(240)],
        help_text=_("How long a comparison waits for an annotator who went away."),
    )
    gold_rate = models.FloatField(
        default=0.1,
        validators=[MinValueValidator(0), MaxValueValidator(0.5)],
        help_text=_("The share of comparisons with a known verdict, mixed in to measure accuracy."),
    )
    gold_feedback = models.CharField(max_length=10, choices=GoldFeedback.choices, default=GoldFeedback.SILENT)
    repeat_rate = models.FloatField(
        default=0.0,
        validators=[MinValueValidator(0), MaxValueValidator(0.2)],
        help_text=_("The share shown to the same annotator a second time, sides swapped half of the time."),
    )
    qualification_size = models.PositiveSmallIntegerField(
        default=0, help_text=_("Gold comparisons to pass before real work. 0 turns qualification off.")
    )
    qualification_pass = models.FloatField(
        default=0.8, validators=[MinValueValidator(0), MaxValueValidator(1)]
    )
    min_seconds = models.FloatField(
        default=1.5, help_text=_("Verdicts faster than this are marked (never dropped).")
    )
    reasons = models.JSONField(
        default=list, blank=True, help_text=_("Reasons to pick from: a list of {key, title, removed}.")
    )
    criteria = models.JSONField(
        default=list,
        blank=True,
        help_text=_("Further criteria, such as helpful: a list of {key, title, removed}."),
    )
    ask_rationale = models.BooleanField(default=False)
    default_view = models.CharField(
        max_length=12, choices=TextView.choices, default=TextView.RENDERED, db_default=TextView.RENDERED
    )
    show_agreement = models.BooleanField(
        default=True,
        help_text=_("Annotators see their own agreement, and with feedback on gold their accuracy."),
    )

    visible_metadata = models.JSONField(
        default=list, blank=True, help_text=_("Keys of metadata that annotators see beside the prompt.")
    )
    image_hosts = models.JSONField(
        default=list, blank=True, help_text=_("Hosts that images in texts are loaded from.")
    )

    held_out_share = models.FloatField(
        default=0.1,
        validators=[MinValueValidator(0), MaxValueValidator(0.5)],
        help_text=_("The share of prompts, chosen by a hash of their text, that training never sees."),
    )
    current_policy = models.ForeignKey(
        "Policy", null=True, blank=True, on_delete=models.RESTRICT, related_name="current_for"
    )
    training_settings = models.JSONField(
        default=dict, blank=True, help_text=_("Defaults for a round's config.json.")
    )
    sampling_settings = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def all_reasons(self) -> list[Aspect]:
        """The reasons to pick from, and those that were removed."""
        return read_aspects(self.reasons)

    @property
    def all_criteria(self) -> list[Aspect]:
        """The criteria to judge by, and those that were removed."""
        return read_aspects(self.criteria)
