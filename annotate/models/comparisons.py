"""Comparisons, and the claims by which annotators hold them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery
from django.db.models.expressions import ExpressionWrapper
from django.db.models.functions import Coalesce, Greatest, Least
from django.db.models.lookups import Exact
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.projects import Project
from annotate.models.texts import Completion, Prompt

SHUFFLE_KEYS = 2**31  # shuffle keys lie in [0, SHUFFLE_KEYS)
SKIPS_BEYOND = 2  # how many more annotators than it needs may skip a comparison before it is set aside


def new_shuffle_key() -> int:
    """Return a random place on the queue's ring, drawn once, so that handing out needs no ORDER BY random()."""
    return random.randrange(SHUFFLE_KEYS)


class Priority(models.IntegerChoices):
    """Usual values of Comparison.priority. Anything above 0 goes before everything at 0."""

    STANDARD = 0, _("Standard")
    GATE = 20, _("Gate")


def has_place(path: str = "") -> Q:
    """Return the condition that one more annotator may hold a comparison. Gold is for all of them.

    `path` leads to the comparison.
    """
    return Q(**{f"{path}kind": "gold"}) | _still_needs(path)


def _still_needs(path: str = "") -> Q:
    return Q(**{f"{path}needed__gt": F(f"{path}judged") + F(f"{path}claimed")})


def is_set_aside(path: str = "") -> Q:
    """Return the condition that too many annotators skipped a comparison that lacks judgments. `path` leads to it."""
    lacks = {f"{path}judged__lt": F(f"{path}needed"), f"{path}withdrawn_at__isnull": True}
    return ~_is_skipped_less(path) & Q(**lacks) & ~Q(**{f"{path}kind": "gold"})


def _is_skipped_less(path: str = "") -> Q:
    most = F(f"{path}needed") + F(f"{path}skips_forgiven") + SKIPS_BEYOND
    return Q(**{f"{path}skipped__lt": most})


class ComparisonQuerySet(models.QuerySet["Comparison"]):
    def open(self) -> ComparisonQuerySet:
        """Keep those that may be handed to one more annotator."""
        return self.filter(open=True)

    def open_to(self, annotator: User) -> ComparisonQuerySet:
        """Keep those that may be handed to this annotator, who has not had them."""
        for_them = Q(reserved_for=None) | Q(reserved_for=annotator)
        return self.open().filter(for_them, ~Exists(Claim.objects.had_by(annotator, OuterRef("pk"))))

    def set_aside(self) -> ComparisonQuerySet:
        """Keep those that too many annotators skipped."""
        return self.filter(is_set_aside())

    def hand_out_again(self) -> int:
        """Hand these to annotators who have not had them, after too many skips; returns how many."""
        return self.filter(is_set_aside()).update(skips_forgiven=F("skipped"))

    def untouched(self) -> ComparisonQuerySet:
        """Keep those that no person has judged, skipped or holds. Judgments from files do not count.

        Asked of the comparison's own row where people count: an UPDATE that had to wait for a verdict asks it again.
        """
        imported = Claim.objects.filter(
            comparison=OuterRef("pk"),
            annotator__imported_into__isnull=False,
            state__in=(Claim.State.JUDGED, Claim.State.SKIPPED),
        )
        count = imported.order_by().values("comparison").annotate(count=Count("pk")).values("count")
        by_files = Exact(F("judged") + F("skipped"), Coalesce(Subquery(count), 0))
        return self.filter(Q(judged=0, skipped=0) | Q(by_files), claimed=0)

    def finished(self) -> ComparisonQuerySet:
        """Keep those with all the judgments that they need."""
        return self.filter(judged__gte=F("needed"))


class Comparison(models.Model):
    """One prompt with two completions, waiting for judgments.

    `judged`, `claimed` and `skipped` count its claims in those states; triggers keep them, for every writer.
    `open`, computed by the database, says whether it may be handed to one more annotator: it still needs judgments,
    and was neither withdrawn nor set aside. SKIPS_BEYOND more skips than it needs judgments set it aside for an
    admin, so that a comparison that none can judge does not go round for ever. `hand_out_again` forgives the skips
    so far. Gold is handed to each annotator once, so it is never `open`.

    `arm` says how it came to be shown among several candidates, and `propensity` how likely that was. Where there
    was no choice both are empty: it is as good as drawn at random. Annotators are told neither.

    `closed_to_people` says that an admin asks people about it no more: it was judged elsewhere. It then needs no more
    judgments than it has, even once a person takes one back (`judgments.places`).

    `external_id` and `metadata` are what its importer calls it and says of it; its prompt has its own. A repeat has
    those of what it repeats.
    """

    class Kind(models.TextChoices):
        STANDARD = "standard", _("Standard")
        GOLD = "gold", _("Gold")
        GATE = "gate", _("Gate")
        REPEAT = "repeat", _("Repeat")

    class Arm(models.TextChoices):
        CONTROL = "control", _("Drawn at random, as control")
        PROBE = "probe", _("Chosen by the probe")

    # The completions refer to the prompt, and that to the project. A trigger holds that they are these.
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="comparisons", db_constraint=False
    )
    prompt = models.ForeignKey(
        Prompt, on_delete=models.CASCADE, related_name="comparisons", db_constraint=False
    )
    first = models.ForeignKey(Completion, on_delete=models.RESTRICT, related_name="+")
    second = models.ForeignKey(Completion, on_delete=models.RESTRICT, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.STANDARD)
    gold_preferred = models.ForeignKey(
        Completion, null=True, blank=True, on_delete=models.RESTRICT, related_name="+", db_index=False
    )
    repeat_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="repeats", db_index=False
    )
    reserved_for = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    arm = models.CharField(
        max_length=10, choices=Arm.choices, blank=True, default="", db_default="", editable=False
    )
    propensity = models.FloatField(
        null=True,
        blank=True,
        editable=False,
        help_text=_("The chance that these two of its prompt’s candidates were shown."),
    )
    external_id = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    batch = models.CharField(
        max_length=60, blank=True, help_text=_("What made it, such as “import” or “round 2”.")
    )
    priority = models.PositiveSmallIntegerField(default=Priority.STANDARD, help_text=_("Higher goes first."))
    shuffle_key = models.PositiveBigIntegerField(default=new_shuffle_key, editable=False)
    needed = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    judged = models.PositiveIntegerField(default=0, editable=False)
    claimed = models.PositiveIntegerField(default=0, editable=False)
    skipped = models.PositiveIntegerField(default=0, editable=False)
    skips_forgiven = models.PositiveIntegerField(
        default=0, editable=False, help_text=_("The skips that counted when it was handed out again.")
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)
    closed_to_people = models.BooleanField(default=False, db_default=False, editable=False)
    open = models.GeneratedField(
        expression=ExpressionWrapper(
            _still_needs() & _is_skipped_less() & Q(withdrawn_at__isnull=True) & ~Q(kind="gold"),
            output_field=models.BooleanField(),
        ),
        output_field=models.BooleanField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ComparisonQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(first=F("second")), name="comparisons_have_two_completions"),
            models.CheckConstraint(condition=Q(needed__gte=1), name="comparisons_need_a_judgment"),
            models.CheckConstraint(
                # A CHECK lets NULL pass: what must not be NULL is said.
                condition=~Q(kind="gold")
                | Q(gold_preferred__isnull=False)
                & (Q(gold_preferred=F("first")) | Q(gold_preferred=F("second"))),
                name="gold_prefers_one_of_its_completions",
            ),
            models.CheckConstraint(
                condition=Q(kind="repeat", repeat_of__isnull=False, reserved_for__isnull=False)
                | (~Q(kind="repeat") & Q(repeat_of__isnull=True, reserved_for__isnull=True)),
                name="repeats_name_what_and_whom",
            ),
            models.CheckConstraint(
                condition=~Q(kind="repeat") | Q(external_id=""), name="repeats_have_no_external_id"
            ),
            models.CheckConstraint(
                condition=Q(arm="", propensity__isnull=True)
                | Q(
                    arm__in=["control", "probe"],
                    propensity__isnull=False,
                    propensity__gt=0,
                    propensity__lte=1,
                ),
                name="choices_state_their_propensity",
            ),
            models.CheckConstraint(
                condition=Q(arm="") | Q(kind__in=["standard", "gold"]), name="only_new_pairs_are_chosen"
            ),
            models.UniqueConstraint(
                Least("first", "second"),
                Greatest("first", "second"),
                condition=~Q(kind="repeat"),
                name="one_comparison_per_pair",
            ),
            models.UniqueConstraint(
                fields=["repeat_of", "reserved_for"], condition=Q(kind="repeat"), name="one_repeat_per_person"
            ),
        ]
        indexes = [
            # The queue's look-ups: highest priority first, then along the shuffle keys.
            models.Index(
                F("project"),
                F("priority").desc(),
                F("shuffle_key"),
                condition=Q(open=True, reserved_for__isnull=True),
                name="open_comparisons",
            ),
            models.Index(
                fields=["reserved_for", "project", "shuffle_key"],
                condition=Q(open=True, reserved_for__isnull=False),
                name="reserved_comparisons",
            ),
            models.Index(
                fields=["project", "shuffle_key"],
                condition=Q(kind="gold", withdrawn_at__isnull=True),
                name="gold_comparisons",
            ),
            models.Index(
                fields=["project", "external_id"],
                condition=~Q(external_id=""),
                name="comparisons_by_external_id",
            ),
            # The checks of foreign keys for a comparison or a completion that is deleted: few rows name one.
            models.Index(
                fields=["gold_preferred"],
                condition=Q(gold_preferred__isnull=False),
                name="gold_by_completion",
            ),
            models.Index(
                fields=["repeat_of"], condition=Q(repeat_of__isnull=False), name="repeats_of_comparison"
            ),
        ]

    def __str__(self) -> str:
        return f"comparison {self.pk} ({self.kind})"

    @property
    def all_metadata(self) -> dict[str, Any]:
        """The metadata of its prompt and its own, which wins where both have a key."""
        return {**self.prompt.metadata, **self.metadata}

    def visible_metadata(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what annotators see beside it in a project that shows these keys, in their order."""
        known = self.all_metadata if keys else {}  # the queue leaves it in the database
        return {key: known[key] for key in keys if key in known}

    def withdraw(self) -> bool:
        """Hand it out no more, and make no pair of it. Annotators who have it on screen may finish. False if it was
        withdrawn."""
        return self._update(Q(withdrawn_at__isnull=True), withdrawn_at=timezone.now())

    def restore(self) -> bool:
        """Undo `withdraw`. False if it was not withdrawn."""
        return self._update(Q(withdrawn_at__isnull=False), withdrawn_at=None)

    def hand_out_again(self) -> bool:
        """Hand it to annotators who have not had it, after too many skips. False if it was not set aside."""
        changed = Comparison.objects.filter(pk=self.pk).hand_out_again() == 1
        self.refresh_from_db()
        return changed

    @property
    def is_set_aside(self) -> bool:
        """Return whether too many annotators skipped it (`is_set_aside`)."""
        is_lacking = self.judged < self.needed and self.withdrawn_at is None and self.kind != self.Kind.GOLD
        return is_lacking and self.skipped >= self.needed + self.skips_forgiven + SKIPS_BEYOND

    def _update(self, condition: Q, **fields: object) -> bool:
        changed = Comparison.objects.filter(condition, pk=self.pk).update(**fields) == 1
        self.refresh_from_db()
        return changed


class ClaimQuerySet(models.QuerySet["Claim"]):
    def holding(self) -> ClaimQuerySet:
        """Keep those that hold a place of their comparison."""
        return self.filter(state__in=Claim.HOLDING)

    def unsettled(self) -> ClaimQuerySet:
        """Keep those without a current judgment."""
        return self.exclude(state__in=Claim.SETTLED)

    def had_by(self, annotator: User, comparison: OuterRef) -> ClaimQuerySet:
        """Keep this annotator's claim on the comparison, unless they gave it back."""
        return self.filter(comparison=comparison, annotator=annotator, state__in=Claim.HAD)

    def held_from(self, annotator: User) -> ClaimQuerySet:
        """Keep those of others on comparisons that this annotator could be handed if they were given back."""
        had = Claim.objects.had_by(annotator, OuterRef("comparison"))
        return (
            self.holding()
            .filter(~Exists(had), comparison__reserved_for=None, comparison__withdrawn_at=None)
            .exclude(is_set_aside("comparison__"))
            .exclude(annotator=annotator)
            .exclude(comparison__kind=Comparison.Kind.GOLD)
        )


class Claim(models.Model):
    """An annotator's short lease on a comparison, and what became of it.

    One row per (comparison, annotator), kept for good. It holds the sides that were drawn for that person, so a
    reload or a later visit shows the same. `token` comes back with the verdict. Only an undo draws a new one, so
    that a page opened before a lease ran out can still be sent.
    """

    class State(models.TextChoices):
        LIVE = "live", _("Live")  # on the annotator's screen
        NEXT = "next", _("Next")  # fetched ahead, not yet seen
        JUDGED = "judged", _("Judged")
        SKIPPED = "skipped", _("Skipped")
        PASSED = "passed", _("Not their language or field")  # a skip that sets nothing aside
        RELEASED = "released", _("Released")
        EXPIRED = "expired", _("Expired")

    HOLDING = (State.LIVE, State.NEXT)  # Comparison.claimed counts these
    SETTLED = (State.JUDGED, State.SKIPPED, State.PASSED)  # a current judgment exists
    HAD = (*HOLDING, *SETTLED)  # a comparison comes to an annotator once
    FREED = (State.RELEASED, State.EXPIRED)  # given back; the same person may be handed it again

    # Each hand-out writes a row: it has the indexes that are read (below), and no others. The project and the sides
    # are those of the comparison (`triggers.py`), whose foreign keys look after them.
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    comparison = models.ForeignKey(
        Comparison, on_delete=models.CASCADE, related_name="claims", db_index=False
    )
    annotator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="claims", db_index=False)
    left = models.ForeignKey(
        Completion, on_delete=models.RESTRICT, related_name="+", db_index=False, db_constraint=False
    )
    right = models.ForeignKey(
        Completion, on_delete=models.RESTRICT, related_name="+", db_index=False, db_constraint=False
    )
    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.LIVE)
    claimed_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    draft = models.JSONField(default=dict, blank=True)
    undone = models.ForeignKey(
        "annotate.Judgment",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        help_text=_("The judgment whose undoing opened the claim again."),
    )

    objects = ClaimQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["comparison", "annotator"], name="one_claim_per_person"),
            models.UniqueConstraint(
                fields=["project", "annotator"], condition=Q(state="live"), name="one_live_claim_per_person"
            ),
            models.UniqueConstraint(
                fields=["project", "annotator"], condition=Q(state="next"), name="one_next_claim_per_person"
            ),
            models.CheckConstraint(condition=~Q(left=F("right")), name="claims_show_two_completions"),
        ]
        indexes = [
            models.Index(
                fields=["project", "expires_at"],
                condition=Q(state__in=["live", "next"]),
                name="claims_that_can_expire",
            ),
            models.Index(
                fields=["project", "annotator"],
                condition=Q(undone__isnull=False),
                name="claims_opened_by_undo",
            ),
            models.Index(
                fields=["project", "annotator", "-expires_at"],
                condition=Q(state__in=["released", "expired"]),
                name="claims_given_back",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.annotator} on {self.comparison} ({self.state})"
