"""The form of an export: which rows, and how judgments become pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, time
from typing import Any

from django import forms
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.forms.filters import Annotators, Batch, Policies, StrictForm
from annotate.models import Comparison, Project
from annotate.pairs import exports
from annotate.pairs.downloads import rows_download
from annotate.pairs.exports import HELD_OUT, Filters
from annotate.pairs.snapshots import PairSettings


class PairsForm(StrictForm):
    """The rules by which judgments become pairs. What is left out is as in FIRST."""

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

    FIRST: Mapping[str, Any] = {
        "votes": "equal", "weights": "equal", "min_judgments": 1, "smoothing": 0.0, "too_fast": "count",
        "gold": "leave",
    }  # fmt: skip

    def __init__(self, data: Mapping[str, Any]) -> None:
        given = {name: value for name, value in data.items() if value != ""}
        super().__init__({**self.FIRST, **given})
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
    """Which rows to take out, and how judgments become pairs. Whatever is left out is as in FIRST."""

    held_out = forms.ChoiceField(
        choices=[
            ("", _("In judgments only")),
            ("leave", _("Leave out")),
            ("include", _("Include")),
            ("only", _("Only these")),
        ],
        label=_("Held-out prompts"),
        help_text=_("Training never sees them. Judgments of them are work like any other."),
    )
    kind = forms.ChoiceField(choices=[("", _("Every kind")), *Comparison.Kind.choices], label=_("Kind"))
    policy = Policies(to_field_name="name", label=_("With a completion of"))
    annotator = Annotators(to_field_name="username", empty_label=_("Everybody"))
    since = forms.DateField(label=_("Judged since"), widget=forms.DateInput(attrs={"type": "date"}))
    batch = Batch()
    cells = forms.ChoiceField(
        choices=[("raw", _("As they are")), ("safe", _("Safe to open in a spreadsheet"))],
        label=_("Texts in CSV"),
        help_text=_("Safe ones get an apostrophe before =, +, - and @, so that no spreadsheet runs them."),
    )

    FIRST = {**PairsForm.FIRST, "cells": "raw"}
    BESIDE = StrictForm.BESIDE | {"count"}

    def __init__(self, data: Mapping[str, Any], *, project: Project) -> None:
        super().__init__(data)
        for field in self.fields.values():
            if isinstance(field, Annotators | Policies | Batch):
                field.narrow_to(project)
        self.fields["annotator"].label = _("Judged by")

    def chosen(self) -> dict[str, Any]:
        """Return what differs from FIRST, in words, for the trail."""
        return {
            name: str(value)
            for name, value in self.cleaned_data.items()
            if value not in ("", None) and value != self.FIRST.get(name)
        }

    def settings(self) -> PairSettings:
        """Return the settings of pairs. Other trainers may train on what the engine here cannot."""
        return replace(super().settings(), include_untrainable=True)

    def filters(self, *, of_judgments: bool = False) -> Filters:
        """Return the rows that were chosen: of pairs, or of judgments, which have held-out ones if nothing is said."""
        chosen = self.cleaned_data
        since = chosen["since"]
        return Filters(
            since=timezone.make_aware(datetime.combine(since, time())) if since else None,
            annotator=chosen["annotator"].pk if chosen["annotator"] else None,
            kind=chosen["kind"],
            policy=chosen["policy"].pk if chosen["policy"] else None,
            batch=chosen["batch"],
            held_out=HELD_OUT[chosen["held_out"] or ("include" if of_judgments else "leave")],
        )

    @property
    def for_spreadsheets(self) -> bool:
        return bool(self.cleaned_data["cells"] == "safe")


def export_download(project: Project, form: ExportForm, what: str, file_format: str) -> StreamingHttpResponse:
    """Return the rows that a valid form asks for, as a file: `what` is pairs or judgments."""
    if what == "pairs":
        rows = exports.export_rows(project, form.filters(), form.settings())
        columns = exports.PAIR_COLUMNS
    else:
        rows = exports.judgment_rows(project, form.filters(of_judgments=True))
        columns = exports.JUDGMENT_COLUMNS
    name = f"{project.slug}-{what}"
    return rows_download(rows, columns, name, file_format, for_spreadsheets=form.for_spreadsheets)
