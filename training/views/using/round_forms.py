"""The forms that start a round, with the policies that write or that are compared with."""

from __future__ import annotations

from typing import Any, cast

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
        self.project = project
        written_by = self.fields["policy"] = _choice(project, _("Written by"), _("The current policy"), "")
        self.fields["against"] = _choice(
            project,
            _("Other side by"),
            _("The same policy"),
            _("Judgments then tell which of the two is better."),
        )
        written_by.initial = self.like.start if self.like else None
        if project.current_policy_id is None:
            written_by.empty_label = None
            written_by.initial = written_by.initial or writers(project).first()
        self.fields["against"].initial = self.like.against if self.like else None

    def in_sight(self) -> list[BoundField]:
        """Ask for policies unless the current one is the only writer, and for the other side's where there are two."""
        known = set(writers(self.project).values_list("pk", flat=True))
        asked = [self["policy"]] if known - {self.project.current_policy_id} else []
        return [*super().in_sight(), *asked, *([self["against"]] if len(known) > 1 else [])]

    def writers(self) -> dict[str, Policy | None]:
        """Return the policies of a valid form as `state_machine.write` takes them."""
        return {name: self.cleaned_data[name] for name in ("policy", "against")}


class StartField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """The policy that a round trains from, and that it is measured against."""

    def __init__(self, project: Project) -> None:
        trainable = writers(project).exclude(kind=Policy.Kind.EXTERNAL)
        self.current = project.current_policy_id
        super().__init__(
            trainable,
            required=False,
            label=_("Start from"),
            empty_label=str(_("The base policy")),
            help_text=_(
                "Training starts from it and is measured against it, on all pairs. From the base policy, drift does not"
                " add up from round to round."
            ),
        )

    def label_from_instance(self, obj: Policy) -> str:
        """Return the policy's name, marked where it is the current one."""
        if obj.pk != self.current:
            return obj.name
        return str(_("%(policy)s, the current policy") % {"policy": obj.name})


class TrainingForm(RoundForm):
    """The settings of a round that trains, with the policies that it starts from and that its gate compares with."""

    GATE, START = "gate_against", "start_from"

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(project, *args, **kwargs)
        against = self.like.against if self.like else None
        self.fields[self.GATE] = _choice(
            project,
            _("Gate against"),
            _("The current policy"),
            _("The policy that writes the other side of the blind comparisons that decide."),
        )
        self.fields[self.GATE].initial = against
        self.fields[self.START] = StartField(project)
        self.fields[self.START].initial = self.like.start if self.like else None
        adapters = writers(project).exclude(adapter="").values_list("adapter", "name")
        reference = cast(forms.ChoiceField, self.fields["reference"])
        reference.choices = [*cast(list[tuple[str, str]], reference.choices), *adapters]

    def usual(self) -> list[BoundField]:
        return [*super().usual(), self[self.START], self[self.GATE]]

    def clean(self) -> dict[str, Any]:
        named = self._take_policies()
        super().clean()
        self.cleaned_data |= named
        return self.cleaned_data

    def chosen(self) -> dict[str, Any]:
        named = self._take_policies()
        try:
            return super().chosen()
        finally:
            self.cleaned_data |= named

    def _take_policies(self) -> dict[str, Any]:
        """Take the policies out of the cleaned data, as they are not settings."""
        return {name: self.cleaned_data.pop(name, None) for name in (self.GATE, self.START)}

    def policies(self) -> dict[str, Policy | None]:
        """Return the policies of a valid form as `state_machine.start` takes them; None for the usual ones."""
        return {"against": self.cleaned_data[self.GATE], "begin": self.cleaned_data[self.START]}
