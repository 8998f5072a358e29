"""The forms that start a round, with the policies that write or that are compared with."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms import BoundField
from django.utils.translation import gettext_lazy as _

from annotate.models import Policy, Project
from training.usage.naming import writers
from training.views.forms import RoundForm, WriteForm


def _choice(project: Project, label: Any, empty: Any, help_text: Any) -> forms.ModelChoiceField[Policy]:
    return forms.ModelChoiceField(
        writers(project), required=False, label=label, empty_label=str(empty), help_text=help_text
    )


class WritingForm(WriteForm):
    """The policies that write the comparisons of a round that does not train: one for both sides, or one for each."""

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(project, *args, **kwargs)
        self.fields["policy"] = _choice(project, _("Written by"), _("The current policy"), "")
        self.fields["against"] = _choice(
            project,
            _("Other side by"),
            _("The same policy"),
            _("Judgments then tell which of the two is better."),
        )

    def in_sight(self) -> list[BoundField]:
        return [*super().in_sight(), self["policy"], self["against"]]

    def writers(self) -> dict[str, Policy | None]:
        """Return the policies of a valid form as `state_machine.write` takes them."""
        return {name: self.cleaned_data[name] for name in ("policy", "against")}


class TrainingForm(RoundForm):
    """The settings of a round that trains, with the policy that its gate compares with."""

    GATE = "gate_against"

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(project, *args, **kwargs)
        against = self.like.against if self.like else None
        self.fields[self.GATE] = _choice(
            project,
            _("Gate against"),
            _("The policy that it starts from"),
            _("The policy that writes the other side of the blind comparisons that decide."),
        )
        self.fields[self.GATE].initial = against

    def in_sight(self) -> list[BoundField]:
        return [*super().in_sight(), self[self.GATE]]

    def clean(self) -> dict[str, Any]:
        against = self.cleaned_data.pop(self.GATE, None)  # which is no setting
        cleaned = super().clean()
        cleaned[self.GATE] = against
        return cleaned

    def chosen(self) -> dict[str, Any]:
        against = self.cleaned_data.pop(self.GATE, None)
        try:
            return super().chosen()
        finally:
            self.cleaned_data[self.GATE] = against

    def against(self) -> Policy | None:
        """Return the policy that the gate of a valid form compares with, if not the usual one."""
        found: Policy | None = self.cleaned_data[self.GATE]
        return found
