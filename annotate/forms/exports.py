"""The form of an export: which rows, and how judgments become pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from annotate.errors import RefusalError
from annotate.exports import formats
from annotate.exports.bundle import open_download
from annotate.exports.formats import FORMATS, Format, Source
from annotate.exports.selection import Selection
from annotate.exports.splits import Split
from annotate.forms.filters import (
    AnnotatorsField,
    BatchField,
    DayField,
    MetadataField,
    PolicyField,
    SnapshotField,
    StrictForm,
)
from annotate.models import Comparison, Project
from annotate.pairs.downloads import download
from annotate.pairs.filters import Filters
from annotate.pairs.pair_rows import PAIR_COLUMNS
from annotate.pairs.settings import PairSettings


def as_lists(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what a form is given, every value in a list, and without the empty ones."""
    lists = data.lists() if isinstance(data, MultiValueDict) else data.items()
    found = {name: values if isinstance(values, list) else [values] for name, values in lists}
    filled = {name: [value for value in values if value != ""] for name, values in found.items()}
    return {name: values for name, values in filled.items() if values}


def share_field(label: Any) -> forms.FloatField:
    """Return a field for a share of prompts in percent."""
    return forms.FloatField(min_value=0, max_value=90, label=label)


class PairsForm(StrictForm):
    """The rules by which judgments become pairs. What is left out is as in FIRST."""

    votes = forms.ChoiceField(
        choices=[
            ("auto", _("By reliability where it is known")),
            ("equal", _("Every vote the same")),
            ("reliability", _("By the annotator’s reliability")),
        ],
        label=_("Votes count"),
        help_text=_(
            "Reliability is known from colleagues, gold, gates and a probe; the label becomes a chance."
        ),
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
    )
    too_fast = forms.ChoiceField(
        choices=[("count", _("Count")), ("leave", _("Leave out"))], label=_("Verdicts marked too fast")
    )
    gold = forms.ChoiceField(
        choices=[("leave", _("Leave out")), ("include", _("Include"))], label=_("Gold comparisons")
    )

    FIRST: Mapping[str, Any] = {
        "votes": "auto", "weights": "equal", "min_judgments": 1, "smoothing": 0.0, "too_fast": "count",
        "gold": "leave",
    }  # fmt: skip

    def __init__(self, data: Mapping[str, Any]) -> None:
        first = {name: [value] for name, value in self.FIRST.items()}
        super().__init__(MultiValueDict({**first, **as_lists(data)}))
        for field in self.fields.values():
            field.required = False

    def settings(self) -> PairSettings:
        chosen = self.cleaned_data
        return PairSettings(
            votes=chosen["votes"],
            weights=chosen["weights"],
            smoothing=chosen["smoothing"],
            min_judgments=chosen["min_judgments"],
            include_too_fast=chosen["too_fast"] == "count",
            include_gold=chosen["gold"] == "include" or chosen.get("kind") == Comparison.Kind.GOLD,
        )


class ExportForm(PairsForm):
    """The rows to take out, how judgments become pairs, and the files to write. Whatever is left out is as in
    FIRST."""

    format = forms.ChoiceField(choices=formats.choices, label=_("Format"))
    texts = forms.ChoiceField(
        choices=[
            ("", _("As they are")),
            ("messages", _("All as messages")),
            ("text", _("All as text")),
            ("files", _("A file for each")),
        ],
        label=_("Plain prompts and chats"),
        help_text=_("A file holds prompts of one type. Some formats know only one type."),
    )
    columns = forms.ChoiceField(
        choices=[("all", _("Every column")), ("texts", _("Prompt, chosen and rejected alone"))],
        label=_("Columns of pairs"),
    )
    snapshot = SnapshotField()
    held_out = forms.ChoiceField(
        choices=[
            ("", _("In judgments only")),
            ("leave", _("Leave out")),
            ("include", _("Include")),
            ("only", _("Only these")),
        ],
        label=_("Held-out prompts"),
        help_text=_(
            "Training never sees them. By default files of judgments hold them, and files of pairs do not."
        ),
    )
    kind = forms.ChoiceField(choices=[("", _("Every kind")), *Comparison.Kind.choices], label=_("Kind"))
    policy = PolicyField(to_field_name="name", label=_("With a completion of"))
    judged_by = forms.ChoiceField(
        choices=[
            ("", _("Anywhere")),
            ("people", _("Here, by people")),
            ("imported", _("Elsewhere: all from imported files")),
        ],
        label=_("Judged"),
    )
    annotator = AnnotatorsField(to_field_name="username", label=_("Judged by"))
    since = DayField(label=_("Judged since"))
    until = DayField(label=_("Judged until"), help_text=_("Later judgments are left out."))
    batch = BatchField()
    round = forms.IntegerField(min_value=1, max_value=1_000_000, label=_("Samples of round"))
    metadata = MetadataField()
    flags = forms.ChoiceField(
        choices=[("", _("Any")), ("leave", _("Leave out flagged ones")), ("only", _("Flagged ones alone"))],
        label=_("Open flags"),
    )
    strength = forms.FloatField(
        min_value=0,
        max_value=3,
        label=_("Least mean strength"),
        help_text=_("0 to 3, as annotators gave it."),
    )
    agreement = forms.FloatField(
        min_value=0.5,
        max_value=1,
        label=_("Least agreement"),
        help_text=_("The share of votes for the chosen completion, 0.5 to 1."),
    )
    ties = forms.ChoiceField(
        choices=[
            ("leave", _("Leave out")),
            ("include", _("Include, with the label 0.5")),
            ("only", _("Ties alone")),
        ],
        label=_("Ties"),
    )
    validation = share_field(_("For validation, %"))
    test = share_field(_("For test, %"))
    salt = forms.CharField(
        max_length=100,
        label=_("Salt of the split"),
        help_text=_(
            "Another salt draws other prompts. The same one draws the same, however much data is added."
        ),
    )
    parts = forms.ChoiceField(
        choices=[("column", _("A column “split”")), ("files", _("A file for each part"))],
        label=_("Parts are"),
    )
    cells = forms.ChoiceField(
        choices=[("raw", _("As they are")), ("safe", _("Safe to open in a spreadsheet"))],
        label=_("Texts in CSV"),
        help_text=_("Safe ones get an apostrophe before =, +, - and @, so that no spreadsheet runs them."),
    )

    FIRST = {
        **PairsForm.FIRST, "format": "jsonl", "columns": "all", "ties": "leave", "validation": 0, "test": 0,
        "parts": "column", "cells": "raw",
    }  # fmt: skip
    BESIDE = StrictForm.BESIDE | {"count", "repository", "public", "token"}
    NARROWING = (
        "kind", "policy", "judged_by", "annotator", "since", "until", "batch", "round", "metadata", "flags", "strength",
        "agreement",
    )  # fmt: skip

    def __init__(self, data: Mapping[str, Any], *, project: Project, format: str = "") -> None:
        """Read the form. `format` is that of an address which names one."""
        given = as_lists(data)
        self._differs = bool(format) and given.get("format", [format]) != [format]
        super().__init__({**given, **({"format": [format]} if format else {})})
        self.project = project
        for field in self.fields.values():
            if isinstance(field, AnnotatorsField):
                field.narrow_to(project, given.get("annotator", []))
            elif isinstance(field, PolicyField | BatchField | SnapshotField):
                field.narrow_to(project)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self._differs:
            self.add_error("format", _("This address is about one format: leave this out, or use export/."))
        if self.errors:
            return cleaned
        for name, sentence in list(self._contradictions(cleaned)):
            self.add_error(name, sentence)
        return cleaned

    def _contradictions(self, cleaned: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the fields that mean nothing beside the others, and why."""
        format, splits = FORMATS[cleaned["format"]], cleaned["validation"] or cleaned["test"]
        about_texts = format.source is not Source.JUDGMENTS
        if cleaned["texts"] and (not about_texts or format.texts not in ("", cleaned["texts"])):
            yield "texts", _("This format knows prompts of one type alone: leave the choice to it.")
        if cleaned["columns"] == "texts" and format.columns != PAIR_COLUMNS:
            yield "columns", _("The columns of this format are fixed.")
        if cleaned["ties"] != "leave" and not format.has_ties:
            yield "ties", _("This format cannot say that neither completion is better.")
        if splits and not about_texts:
            yield "test", _("Judgments are not divided: choose a format of pairs or comparisons.")
        if cleaned["validation"] + cleaned["test"] >= 100:
            yield "test", _("The two shares must leave prompts to train on.")
        narrowing = [name for name in self.NARROWING if cleaned[name]]
        if cleaned["snapshot"] and (narrowing or format.source is not Source.PAIRS):
            sentence = _(
                "A snapshot is frozen: it leaves whole, as pairs. Held-out prompts and ties can be chosen."
            )
            yield (narrowing or ["snapshot"])[0], sentence

    @property
    def groups(self) -> Iterator[tuple[Any, Any, list[list[forms.BoundField]], bool]]:
        """Yield the folded parts of the page: title, hint, rows of fields, and whether one of them is in use."""
        for title, hint, rows in GROUPS:
            fields = [[self[name] for name in row] for row in rows]
            flat = [field for row in fields for field in row]
            used = any(
                field.errors or str(field.value() or "") not in self._unused(field.name) for field in flat
            )
            yield title, hint, fields, used

    def _unused(self, name: str) -> tuple[str, ...]:
        first = self.FIRST.get(name)
        return ("", "[]", "0", "0.0", str(first))

    @property
    def chosen_format(self) -> Format:
        return FORMATS[self.cleaned_data["format"]]

    def chosen(self) -> dict[str, Any]:
        """Return what differs from FIRST, in words, for the trail."""
        found = {}
        for name, given in self.cleaned_data.items():
            value = list(given) if isinstance(given, QuerySet) else given
            if name != "format" and value not in ("", None, []) and value != self.FIRST.get(name):
                found[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return found

    def query(self) -> dict[str, list[str]]:
        """Return what was given, to read the form again later."""
        return {name: values for name, values in as_lists(self.data).items() if name in self.fields}

    def settings(self) -> PairSettings:
        """Return the settings of pairs. Other trainers may train on what the engine here cannot."""
        return replace(super().settings(), include_untrainable=True)

    def filters(self, *, of_judgments: bool = False) -> Filters:
        """Return the rows that were chosen: of pairs, or of judgments, which have held-out ones if nothing is said."""
        chosen = self.cleaned_data
        return Filters(
            since=_midnight(chosen["since"]),
            until=_midnight(chosen["until"] + timedelta(days=1)) if chosen["until"] else None,
            judged_by=chosen["judged_by"],
            annotators=[person.pk for person in chosen["annotator"]],
            kind=chosen["kind"],
            policy=chosen["policy"].pk if chosen["policy"] else None,
            batch=f"round {chosen['round']}" if chosen["round"] else chosen["batch"],
            flagged=chosen["flags"],
            metadata=chosen["metadata"],
            held_out=chosen["held_out"] or ("include" if of_judgments else "leave"),
            strength=chosen["strength"] or 0.0,
            agreement=chosen["agreement"] or 0.0,
            ties=chosen["ties"],
            without=self.chosen_format.without,
        )

    def selection(self) -> Selection:
        """Return the rows that were chosen, in their format."""
        chosen, format = self.cleaned_data, self.chosen_format
        split = Split(chosen["validation"] / 100, chosen["test"] / 100, chosen["salt"])
        has_files = chosen["parts"] == "files" or format.is_folder or not format.has_columns
        return Selection(
            project=self.project,
            format=format,
            filters=self.filters(of_judgments=format.source is Source.JUDGMENTS),
            settings=self.settings(),
            snapshot=chosen["snapshot"],
            texts=format.texts or chosen["texts"],
            split=split,
            by_files=bool(split) and has_files,
            for_spreadsheets=chosen["cells"] == "safe",
            only_texts=chosen["columns"] == "texts",
        )


GROUPS = (
    (
        _("Which rows"),
        _("people, dates, rounds, agreement"),
        [
            ["policy", "judged_by"], ["since", "until"], ["batch", "round"], ["metadata", "flags"],
            ["min_judgments", "strength", "agreement"], ["annotator"],
        ],
    ),
    (
        _("Train, validation and test"),
        _("by prompt"),
        [["validation", "test"], ["salt", "parts"]],
    ),
    (
        _("How judgments become pairs"),
        _("votes, labels, weights"),
        [["votes", "weights"], ["smoothing", "too_fast", "gold"], ["snapshot"]],
    ),
    (_("For spreadsheets"), _("CSV"), [["cells"]]),
)  # fmt: skip


class PushForm(forms.Form):
    """The repository that a dataset is pushed to, and the token, which is never shown again."""

    repository = forms.RegexField(
        r"\A[\w.-]{1,96}/[\w.-]{1,96}\Z",
        label=_("Repository"),
        widget=forms.TextInput(attrs={"placeholder": _("OWNER/NAME"), "autocomplete": "off"}),
        error_messages={"invalid": _("Write the repository as OWNER/NAME.")},
    )
    token = forms.CharField(
        max_length=200,
        label=_("Token"),
        help_text=_("Used for this push alone, and stored nowhere."),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    public = forms.BooleanField(
        required=False,
        label=_("Public"),
        help_text=_("Everybody can see a new repository. A repository that exists stays what it is."),
    )

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, prefix=None)


def _midnight(day: date | None) -> datetime | None:
    return timezone.make_aware(datetime.combine(day, time())) if day else None


def read_selection(project: Project, query: Mapping[str, Any]) -> Selection:
    """Return the selection that a query of the form stands for. Raises RefusalError, naming the field at fault."""
    form = ExportForm(query, project=project)
    for field, errors in form.errors.items():
        raise RefusalError(str(errors[0]), str(field))
    return form.selection()


def export_download(form: ExportForm) -> StreamingHttpResponse:
    """Return the rows that a valid form asks for, as a file. Raises RefusalError if they do not fit one."""
    found = open_download(form.selection())
    return download(found.chunks, found.filename, found.content_type)
