"""The filters of the lists of comparisons and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.forms.filters import (
    AnnotatorField,
    BatchField,
    DayField,
    KeyField,
    MetadataField,
    PolicyField,
    StrictForm,
)
from annotate.models import Comparison, Judgment, Project
from annotate.projects import trail
from annotate.reports.prompt_figures import LEAST

HELD_OUT = [("", _("Any prompt")), ("yes", _("Held out")), ("no", _("For training"))]


CONCERNS = [
    ("", _("Any judgments")),
    ("skips", _("With skips")),
    ("both_bad", _("With both bad")),
    ("ties", _("With ties")),
    ("disagreement", _("Annotators disagree")),
    ("flags", _("Flagged")),
    ("cut", _("Cut at the length limit")),
]
ORDERS = [
    ("skips", _("Most skipped")),
    ("both_bad", _("Most both bad")),
    ("ties", _("Most ties")),
    ("disagreement", _("Most disagreement")),
    ("flags", _("Most flags")),
    ("cut", _("Most cut at the length limit")),
]


LEAST_JUDGMENTS = [
    ("1", _("From 1 judgment")),
    ("", _("From 3 judgments")),
    ("10", _("From 10 judgments")),
    ("30", _("From 30 judgments")),
]


class PromptFilterForm(StrictForm):
    """The filters of the list of prompts."""

    STATES = [
        ("", _("Any state")),
        ("in_use", _("In use")),
        ("unused", _("Without comparisons")),
        ("withdrawn", _("Withdrawn")),
    ]

    q = forms.CharField(required=False, max_length=200, label=_("Search"))
    state = forms.ChoiceField(required=False, choices=STATES, label=_("State"))
    held_out = forms.ChoiceField(required=False, choices=HELD_OUT, label=_("Prompts"))
    has = forms.ChoiceField(required=False, choices=CONCERNS, label=_("Judgments"))
    batch = BatchField()
    metadata = MetadataField()

    def __init__(self, data: Mapping[str, Any], *, project: Project) -> None:
        super().__init__(data)
        self.fields["batch"].narrow_to(project)  # type: ignore[attr-defined]


class PromptListForm(PromptFilterForm):
    """The filters of the list of prompts, and their order. `least` counts where there is an order."""

    IN_SIGHT = ("order", "has")
    MORE = ("least", "state", "held_out", "batch", "metadata")  # folded, unless one is in use
    field_order = ("q", *IN_SIGHT, *MORE)

    order = forms.ChoiceField(required=False, choices=[("", _("Newest first")), *ORDERS], label=_("Order"))
    least = forms.TypedChoiceField(
        required=False,
        choices=LEAST_JUDGMENTS,
        coerce=int,
        empty_value=LEAST,  # type: ignore[arg-type] # it is returned as it is
        label=_("Judgments that a ranked prompt needs"),
    )


class PromptRankingForm(PromptFilterForm):
    """The query by which the API is asked for the prompts that stand out."""

    order = forms.ChoiceField(choices=ORDERS, label=_("Order"))
    least = forms.IntegerField(
        required=False, min_value=1, max_value=1_000, label=_("Judgments that a ranked prompt needs")
    )
    before = KeyField(required=False, label=_("Before"))

    def clean_least(self) -> int:
        return self.cleaned_data["least"] or LEAST


class TrailFilterForm(StrictForm):
    """The filters of the trail."""

    VERBS = [choice for choice in trail.Verb.choices if choice[0] not in trail.ACCOUNT_VERBS]

    person = forms.CharField(required=False, max_length=254, label=_("Username"))
    verb = forms.ChoiceField(required=False, choices=[("", _("Anything")), *VERBS], label=_("What was done"))


class JudgmentFilterForm(StrictForm):
    """The filters of the API's list of judgments."""

    history = forms.ChoiceField(
        required=False,
        choices=[("0", _("Current ones")), ("1", _("Replaced ones too"))],
        label=_("Replaced ones too"),
        error_messages={"invalid_choice": _("Must be 0 or 1.")},
    )
    annotator = AnnotatorField(to_field_name="username", empty_label=_("Any annotator"))
    verdict = forms.ChoiceField(
        required=False, choices=[("", _("Any verdict")), *Judgment.Verdict.choices], label=_("Verdict")
    )
    comparison = KeyField(required=False, label=_("Comparison"))
    since = DayField(required=False, label=_("Judged since"))

    def __init__(self, data: Mapping[str, Any], *, project: Project) -> None:
        super().__init__(data)
        self.fields["annotator"].narrow_to(project)  # type: ignore[attr-defined]


class FilterForm(StrictForm):
    """The filters of the list of comparisons."""

    STATES = [
        ("", _("Any state")),
        ("waiting", _("Waiting")),
        ("partly", _("Partly judged")),
        ("finished", _("Finished")),
        ("set_aside", _("Set aside (often skipped)")),
        ("withdrawn", _("Withdrawn")),
    ]
    JUDGED_BY = [
        ("", _("Judged anywhere")),
        ("people", _("Judged here")),
        ("imported", _("Judged elsewhere")),
    ]
    IN_SIGHT = ("state", "verdict")
    # Folded, unless one is in use.
    MORE = (
        "kind",
        "judged_by",
        "annotator",
        "policy",
        "batch",
        "metadata",
        "held_out",
        "disagreement",
        "flagged",
    )

    q = forms.CharField(required=False, max_length=200, label=_("Search"))
    state = forms.ChoiceField(required=False, choices=STATES, label=_("State"))
    kind = forms.ChoiceField(
        required=False, choices=[("", _("Any kind")), *Comparison.Kind.choices], label=_("Kind")
    )
    verdict = forms.ChoiceField(
        required=False, choices=[("", _("Any verdict")), *Judgment.Verdict.choices], label=_("Verdict")
    )
    judged_by = forms.ChoiceField(required=False, choices=JUDGED_BY, label=_("Judged by"))
    annotator = AnnotatorField(empty_label=_("Any annotator"))
    policy = PolicyField()
    batch = BatchField()
    metadata = MetadataField()
    held_out = forms.ChoiceField(required=False, choices=HELD_OUT, label=_("Prompts"))
    prompt = KeyField(required=False, label=_("Prompt"), widget=forms.HiddenInput(attrs={"id": None}))
    disagreement = forms.BooleanField(required=False, label=_("Annotators disagree"))
    flagged = forms.BooleanField(required=False, label=_("Flagged"))

    def __init__(self, data: Mapping[str, Any], *, project: Project) -> None:
        super().__init__(data)
        for field in self.fields.values():
            if isinstance(field, AnnotatorField):
                field.narrow_to(project, str(data.get("annotator") or ""))
            elif isinstance(field, PolicyField | BatchField):
                field.narrow_to(project)


class NamedFilterForm(FilterForm):
    """The filters of the API's list of comparisons: people and policies by their names."""

    annotator = AnnotatorField(to_field_name="username", empty_label=_("Any annotator"))
    policy = PolicyField(to_field_name="name")
