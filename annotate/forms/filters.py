"""The parts of filters: an unknown name or value is an error that names it, and nothing is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from annotate.models import Policy, Project, Snapshot, User
from annotate.people.members import judged_or_members
from annotate.reports.search import has_batch
from annotate.text.json_values import INTEGER
from primitives.text import is_storable, printable

MOST_EXTERNAL = 20  # annotators that files name, of those that a list offers


class StrictForm(forms.Form):
    """A form from an address or a body, which refuses names that it does not know. Names in `BESIDE` are ignored."""

    BESIDE = frozenset({"before", "csrfmiddlewaretoken"})

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in self.data:
            if name not in self.fields and name not in self.BESIDE:
                self.add_error(None, _("There is no filter “%(name)s”.") % {"name": printable(str(name))})
        return cleaned


class KeyField(forms.IntegerField):
    """The number of a row, as far as the database counts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=1, max_value=INTEGER - 1, **options)


class DayField(forms.DateField):
    """A day, within years that every time zone and database can hold."""

    EARLIEST, LATEST = date(1970, 1, 1), date(9000, 1, 1)
    widget = forms.DateInput(attrs={"type": "date"})

    def validate(self, value: date | None) -> None:
        super().validate(value)
        if value is not None and not self.EARLIEST <= value <= self.LATEST:
            raise forms.ValidationError(
                _("Choose a day from %(first)s to %(last)s."),
                params={"first": self.EARLIEST.isoformat(), "last": self.LATEST.isoformat()},
            )


def name_annotator(person: User) -> str:
    """Return an annotator's name in a list, which says who left, and who is one of a file."""
    if person.is_imported:
        return _("%(name)s (imported)") % {"name": person.shown_name}
    if getattr(person, "is_former", False):
        return _("%(name)s (former member)") % {"name": person.username}
    return str(person.username)


class OfferedAnnotators(forms.models.ModelChoiceIterator):  # type: ignore[type-arg] # as below
    """The annotators that a list offers: people, some of those that files name, and the chosen ones.

    A file can name thousands. All are valid, and a filter of its own chooses all of them together.
    """

    def __init__(self, field: Any) -> None:
        super().__init__(field)
        self.queryset = getattr(field, "offered", field.queryset)


def offered(everyone: QuerySet[User], chosen: Q) -> QuerySet[User]:
    external = everyone.filter(imported_into__isnull=False).values("pk")[:MOST_EXTERNAL]
    return everyone.filter(Q(imported_into=None) | Q(pk__in=external) | chosen)


class AnnotatorField(forms.ModelChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """A member of the project, or one who left: their judgments are kept, and they can be chosen."""

    default_error_messages = {
        "invalid_choice": _("“%(value)s” is not, and was not, an annotator of this project."),
    }

    iterator = OfferedAnnotators

    def __init__(self, **options: Any) -> None:
        super().__init__(User.objects.none(), required=False, label=_("Annotator"), **options)

    def narrow_to(self, project: Project, chosen: str = "") -> None:
        """Take the annotators of this project."""
        everyone = judged_or_members(project)
        self.offered = offered(everyone, Q(pk=chosen) if chosen.isdecimal() and len(chosen) < 19 else Q())
        self.queryset = everyone

    def label_from_instance(self, person: User) -> str:
        return name_annotator(person)


class AnnotatorsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """Any number of people who judged in the project, or may; none of them means all."""

    default_error_messages = AnnotatorField.default_error_messages
    widget = forms.CheckboxSelectMultiple
    iterator = OfferedAnnotators

    def __init__(self, **options: Any) -> None:
        super().__init__(User.objects.none(), required=False, **options)

    def narrow_to(self, project: Project, chosen: Sequence[str] = ()) -> None:
        """Take the annotators of this project."""
        everyone = judged_or_members(project)
        self.offered = offered(everyone, Q(username__in=list(filter(is_storable, chosen))))
        self.queryset = everyone

    def label_from_instance(self, person: User) -> str:
        return name_annotator(person)


class SnapshotField(forms.ModelChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """A snapshot of the project, by its digest or how it begins."""

    default_error_messages = {
        "invalid_choice": _("This project has no one snapshot that begins with %(value)s."),
    }

    def __init__(self) -> None:
        empty = _("The pairs as they are now")
        super().__init__(
            Snapshot.objects.none(),
            required=False,
            to_field_name="digest",
            label=_("Snapshot"),
            empty_label=empty,
        )

    def narrow_to(self, project: Project) -> None:
        """Offer the snapshots of this project."""
        self.queryset = self.snapshots = Snapshot.objects.filter(project=project).order_by("-pk")

    def to_python(self, value: Any) -> Snapshot | None:
        if not value:
            return None
        known = self.snapshots if is_storable(str(value)) else self.snapshots.none()
        found: list[Snapshot] = list(known.filter(digest__startswith=str(value))[:2])
        if len(found) != 1:
            shown = printable(str(value))
            raise forms.ValidationError(
                self.error_messages["invalid_choice"], "invalid_choice", {"value": shown}
            )
        return found[0]

    def label_from_instance(self, snapshot: Snapshot) -> str:
        pairs = snapshot.counts.get("pairs", 0)
        words = ngettext("%(digest)s, %(count)s pair", "%(digest)s, %(count)s pairs", pairs)
        return words % {"digest": snapshot.digest[:12], "count": f"{pairs:,}"}


class PolicyField(forms.ModelChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """A policy of the project."""

    default_error_messages = {"invalid_choice": _("“%(value)s” is not a policy of this project.")}

    def __init__(self, **options: Any) -> None:
        defaults = {"label": _("Policy"), "empty_label": _("Any policy")}
        super().__init__(Policy.objects.none(), required=False, **defaults | options)

    def narrow_to(self, project: Project) -> None:
        """Offer the policies of this project."""
        self.queryset = Policy.objects.filter(project=project).order_by("-pk")


class MetadataField(forms.CharField):
    """A key of metadata, or a key and its value, such as “lang=de”."""

    def __init__(self) -> None:
        widget = forms.TextInput(attrs={"placeholder": _("Metadata, such as “lang=de”")})
        super().__init__(required=False, max_length=300, label=_("Metadata"), widget=widget)


class BatchField(forms.CharField):
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
