"""The form of an export: which rows, and how judgments become pairs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Comparison, Policy, Project, User
from annotate.pairs.exports import HELD_OUT, Filters
from annotate.pairs.snapshots import PairSettings


class ExportForm(forms.Form):
    """Which rows to take out, and how judgments become pairs. Whatever is left out is as in FIRST."""

    held_out = forms.ChoiceField(
        choices=[("leave", _("Leave out")), ("include", _("Include")), ("only", _("Only these"))],
        label=_("Held-out prompts"),
        help_text=_("Training never sees them."),
    )
    kind = forms.ChoiceField(choices=[("", _("Every kind")), *Comparison.Kind.choices], label=_("Kind"))
    policy = forms.ModelChoiceField(
        Policy.objects.none(),
        to_field_name="name",
        empty_label=_("Any policy"),
        label=_("With a completion of"),
    )
    annotator = forms.ModelChoiceField(
        User.objects.none(), to_field_name="username", empty_label=_("Everybody"), label=_("Judged by")
    )
    since = forms.DateField(label=_("Judged since"), widget=forms.DateInput(attrs={"type": "date"}))
    batch = forms.CharField(max_length=60, label=_("Batch"), help_text=_("Such as “import 3” or “round 2”."))
    votes = forms.ChoiceField(
        choices=[("equal", _("Every vote the same")), ("reliability", _("By the annotator’s reliability"))],
        label=_("Votes count"),
        help_text=_("Reliability is estimated from gold and agreement; the label becomes a probability."),
    )
    weights = forms.ChoiceField(
        choices=[("equal", _("Every pair the same")), ("judgments", _("As often as it was judged"))],
        label=_("Weights"),
    )
    min_judgments = forms.IntegerField(min_value=1, max_value=50, label=_("Fewest judgments"))
    smoothing = forms.FloatField(
        min_value=0,
        max_value=100,
        label=_("Smoothing"),
        help_text=_("Votes added to each side: 0.5 makes a single vote the label 0.75."),
        widget=forms.NumberInput(attrs={"step": "0.1"}),
    )
    too_fast = forms.ChoiceField(
        choices=[("count", _("Count")), ("leave", _("Leave out"))], label=_("Verdicts marked too fast")
    )
    gold = forms.ChoiceField(
        choices=[("leave", _("Leave out")), ("include", _("Include"))], label=_("Gold comparisons")
    )

    FIRST = {
        "held_out": "leave", "votes": "equal", "weights": "equal", "min_judgments": 1, "smoothing": 0.0,
        "too_fast": "count", "gold": "leave",
    }  # fmt: skip

    def __init__(self, data: Mapping[str, Any], *, project: Project) -> None:
        given = {name: value for name, value in data.items() if name in self.base_fields and value != ""}
        super().__init__({**self.FIRST, **given})
        for field in self.fields.values():
            field.required = False
        people, policies = self.fields["annotator"], self.fields["policy"]
        people.queryset = User.objects.filter(memberships__project=project).order_by("username")  # type: ignore[attr-defined]
        policies.queryset = Policy.objects.filter(project=project).order_by("pk")  # type: ignore[attr-defined]

    def chosen(self) -> dict[str, Any]:
        """Return what differs from FIRST, in words, for the trail."""
        return {
            name: str(value)
            for name, value in self.cleaned_data.items()
            if value not in ("", None) and value != self.FIRST.get(name)
        }

    def filters(self) -> Filters:
        """Return the rows that were chosen."""
        chosen = self.cleaned_data
        since = chosen["since"]
        return Filters(
            since=timezone.make_aware(datetime.combine(since, time())) if since else None,
            annotator=chosen["annotator"].pk if chosen["annotator"] else None,
            kind=chosen["kind"],
            policy=chosen["policy"].pk if chosen["policy"] else None,
            batch=chosen["batch"],
            held_out=HELD_OUT[chosen["held_out"]],
        )

    def settings(self) -> PairSettings:
        chosen = self.cleaned_data
        return PairSettings(
            votes=chosen["votes"],
            weights=chosen["weights"],
            smoothing=chosen["smoothing"],
            min_judgments=chosen["min_judgments"],
            include_too_fast=chosen["too_fast"] == "count",
            include_gold=chosen["gold"] == "include" or chosen["kind"] == Comparison.Kind.GOLD,
        )
