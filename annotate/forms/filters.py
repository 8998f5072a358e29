"""The parts of filters: an unknown name or value is an error that names it, and nothing is passed over."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Policy, Project, User
from annotate.people.members import judged_or_members
from annotate.reports.search import has_batch
from primitives.text import printable


class StrictForm(forms.Form):
    """A form from an address or a body, which refuses names that it does not know. `BESIDE` are no fields."""

    BESIDE = frozenset({"before", "csrfmiddlewaretoken"})

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in self.data:
            if name not in self.fields and name not in self.BESIDE:
                self.add_error(None, _("There is no filter “%(name)s”.") % {"name": printable(str(name))})
        return cleaned


class Annotators(forms.ModelChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """A member of the project, or one who left: their judgments are kept, and they can be chosen."""

    default_error_messages = {
        "invalid_choice": _("“%(value)s” is not, and was not, an annotator of this project."),
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(User.objects.none(), required=False, label=_("Annotator"), **options)

    def narrow_to(self, project: Project) -> None:
        """Offer the people of this project."""
        self.queryset = judged_or_members(project)

    def label_from_instance(self, person: User) -> str:
        if person.is_imported:
            return _("%(name)s (imported)") % {"name": person.shown_name}
        if getattr(person, "is_former", False):
            return _("%(name)s (former member)") % {"name": person.username}
        return str(person.username)


class Policies(forms.ModelChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """A policy of the project."""

    default_error_messages = {"invalid_choice": _("“%(value)s” is not a policy of this project.")}

    def __init__(self, **options: Any) -> None:
        defaults = {"label": _("Policy"), "empty_label": _("Any policy")}
        super().__init__(Policy.objects.none(), required=False, **defaults | options)

    def narrow_to(self, project: Project) -> None:
        """Offer the policies of this project."""
        self.queryset = Policy.objects.filter(project=project).order_by("-pk")


class Metadata(forms.CharField):
    """A key of metadata, or a key and its value, such as “lang=de”."""

    def __init__(self) -> None:
        widget = forms.TextInput(attrs={"placeholder": _("Metadata, such as “lang=de”")})
        super().__init__(required=False, max_length=300, label=_("Metadata"), widget=widget)


class Batch(forms.CharField):
    """The batch of a row, such as “import 3”: it says what made it."""

    def __init__(self) -> None:
        widget = forms.TextInput(attrs={"placeholder": _("Batch, such as “import 3”")})
        super().__init__(required=False, max_length=60, label=_("Batch"), widget=widget)

    def narrow_to(self, project: Project) -> None:
        """Refuse what is not a batch of this project."""
        self.project = project

    def clean(self, value: Any) -> str:
        batch: str = super().clean(value)
        if batch and not has_batch(self.project, batch):
            raise forms.ValidationError(
                _("“%(value)s” is not a batch of this project."), params={"value": printable(batch)}
            )
        return batch
