"""The filters of the lists of comparisons and prompts."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Comparison, Judgment, Policy, Project, User

HELD_OUT = [("", _("Any prompt")), ("yes", _("Held out")), ("no", _("For training"))]


class Batch(forms.CharField):
    """The batch of a row, such as “import 3”: it says what made it."""

    def __init__(self) -> None:
        widget = forms.TextInput(attrs={"placeholder": _("Batch, such as “import 3”")})
        super().__init__(required=False, max_length=60, label=_("Batch"), widget=widget)


class PromptFilterForm(forms.Form):
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
    batch = Batch()


class FilterForm(forms.Form):
    """The filters of the list of comparisons."""

    STATES = [
        ("", _("Any state")),
        ("waiting", _("Waiting")),
        ("partly", _("Partly judged")),
        ("finished", _("Finished")),
        ("set_aside", _("Set aside (often skipped)")),
        ("withdrawn", _("Withdrawn")),
    ]
    IN_SIGHT = ("state", "verdict")
    # Folded, unless one is in use.
    MORE = ("kind", "annotator", "policy", "batch", "held_out", "disagreement", "flagged")

    q = forms.CharField(required=False, max_length=200, label=_("Search"))
    state = forms.ChoiceField(required=False, choices=STATES, label=_("State"))
    kind = forms.ChoiceField(
        required=False, choices=[("", _("Any kind")), *Comparison.Kind.choices], label=_("Kind")
    )
    verdict = forms.ChoiceField(
        required=False, choices=[("", _("Any verdict")), *Judgment.Verdict.choices], label=_("Verdict")
    )
    annotator = forms.ModelChoiceField(
        User.objects.none(), required=False, empty_label=_("Any annotator"), label=_("Annotator")
    )
    policy = forms.ModelChoiceField(
        Policy.objects.none(), required=False, empty_label=_("Any policy"), label=_("Policy")
    )
    batch = Batch()
    held_out = forms.ChoiceField(required=False, choices=HELD_OUT, label=_("Prompts"))
    prompt = forms.IntegerField(
        required=False, min_value=1, label=_("Prompt"), widget=forms.HiddenInput(attrs={"id": None})
    )
    disagreement = forms.BooleanField(required=False, label=_("Annotators disagree"))
    flagged = forms.BooleanField(required=False, label=_("Flagged"))

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people, policies = self.fields["annotator"], self.fields["policy"]
        people.queryset = User.objects.filter(memberships__project=project).order_by("username")  # type: ignore[attr-defined]
        policies.queryset = Policy.objects.filter(project=project).order_by("-pk")  # type: ignore[attr-defined]
