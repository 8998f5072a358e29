"""The forms of an import: a file or prompts typed in, and how its rows are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from django import forms
from django.conf import settings as site
from django.core.files.base import ContentFile, File
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from annotate.imports.files.options import MAPPED, ROWS, UNKNOWN, Options
from annotate.sources.encodings import ENCODINGS
from annotate.sources.mappings.mapping import MEANINGS, ROLES
from annotate.sources.mappings.mapping import Mapping as ByHand
from primitives.text import printable

# Roles of columns that are asked for first: the others have few files.
USUAL = ("prompt", "completion_a", "completion_b", "chosen", "rejected")


class UploadForm(forms.Form):
    """A file of prompts or pairs, or prompts typed in."""

    FORMATS = [
        ("", _("As the file says")),
        ("jsonl", _("JSON Lines")),
        ("csv", _("CSV with a header")),
        ("txt", _("One prompt a line")),
    ]

    file = forms.FileField(required=False, label=_("File"), allow_empty_file=True)
    address = forms.CharField(
        required=False,
        max_length=500,
        label=_("Or an address"),
        help_text=_("hf://datasets/OWNER/NAME or https://…"),
    )
    format = forms.ChoiceField(required=False, choices=FORMATS)
    text = forms.CharField(
        required=False,
        strip=False,
        label=_("Or paste prompts"),
        help_text=_("One a line."),
        widget=forms.Textarea(attrs={"rows": 5}),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not site.IMPORT_HOSTS:
            del self.fields["address"]

    def clean_file(self) -> File[Any] | None:
        file: File[Any] | None = self.cleaned_data["file"]
        if file and (file.size or 0) > site.IMPORT_LIMIT:
            raise forms.ValidationError(
                _("The file has %(size)s; at most %(limit)s are taken. Split it, and import the parts."),
                params={"size": filesizeformat(file.size or 0), "limit": filesizeformat(site.IMPORT_LIMIT)},
            )
        return file

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        file, text = cleaned.get("file"), cleaned.get("text", "")
        if "file" in self.errors:
            return cleaned
        if bool(file) + bool(text.strip()) + bool(cleaned.get("address")) != 1:
            self.add_error("file", _("Choose a file, or paste prompts: one of the two."))
        elif text.strip():
            cleaned["file"] = ContentFile(text.encode("utf-8", "replace"), name="")
            cleaned["format"] = "txt"
        return cleaned


class OptionsForm(forms.Form):
    """Choices for a file: how it is read, and what its rows become. `options` and `counts` are of its last check."""

    PAIRS = [
        ("all", _("Every two of them")),
        ("best", _("The best against each of the rest")),
    ]

    becomes = forms.ChoiceField(required=False, label=_("The rows become"), widget=forms.RadioSelect)
    pairs = forms.ChoiceField(required=False, choices=PAIRS, label=_("Pairs of several completions"))
    without_losses = forms.BooleanField(
        required=False,
        label=_("Import rows without what cannot be taken, such as images named by their address"),
    )
    empty = forms.BooleanField(required=False, label=_("Take empty completions"))
    sheet = forms.ChoiceField(
        required=False, label=_("Sheet"), help_text=_("One sheet is read. Import the others one at a time.")
    )
    encoding = forms.ChoiceField(required=False, label=_("Encoding"))
    by_hand = forms.BooleanField(required=False, label=_("Read the rows by these columns"))

    def __init__(self, data: Any, *, options: Options, counts: Mapping[str, Any], proposed: Options) -> None:
        initial = {
            "becomes": options.becomes,
            "pairs": options.pairs,
            "without_losses": options.without_losses,
            "empty": options.empty,
            "sheet": options.sheet,
            "encoding": options.encoding,
            "by_hand": options.format in (MAPPED, UNKNOWN),
        }
        super().__init__(data, initial=initial)
        self.options = options
        self._choose_fields(counts)
        self._add_columns(proposed)

    def _choose_fields(self, counts: Mapping[str, Any]) -> None:
        """Leave out what the file gives no reason to ask."""
        figures = counts.get("figures", {})
        becomes = cast(forms.ChoiceField, self.fields["becomes"])
        becomes.choices = becomes_choices(self.options, figures)
        if self.options.format == UNKNOWN:
            del self.fields["becomes"]
        if figures.get("pairs", 0) <= figures.get("best", 0):
            del self.fields["pairs"]
        if len(self.options.sheets) > 1:
            sheet = cast(forms.ChoiceField, self.fields["sheet"])
            sheet.choices = [(name, printable(name, 60)) for name in self.options.sheets]
        else:
            del self.fields["sheet"]
        encoding = cast(forms.ChoiceField, self.fields["encoding"])
        known = dict(ENCODINGS)
        if self.options.encoding:
            known.setdefault(self.options.encoding, self.options.encoding)
            encoding.choices = list(known.items())
        else:
            del self.fields["encoding"]
        if self.options.format == ROWS:
            del self.fields["without_losses"]
            if self.options.becomes == "":
                del self.fields["empty"]

    def _add_columns(self, proposed: Options) -> None:
        """Add a choice of a column for each role, and what the verdict's values mean."""
        if not self.options.columns or self.options.container == "txt":
            del self.fields["by_hand"]
            return
        if self.options.format == UNKNOWN:
            self.fields["by_hand"].widget = forms.HiddenInput()
        columns = [("", _("None")), *((name, printable(name, 60)) for name in self.options.columns)]
        said = {meaning: value for value, meaning in proposed.meanings.items()}
        for role, label in ROLES.items():
            self.fields[f"column_{role}"] = forms.ChoiceField(
                required=False, choices=columns, label=label, initial=proposed.columns_mapped.get(role, "")
            )
        for meaning, label in MEANINGS.items():
            self.fields[f"meaning_{meaning}"] = forms.CharField(
                required=False, max_length=200, label=label, initial=said.get(meaning, "")
            )

    @property
    def is_unknown(self) -> bool:
        """Return whether the columns have to be mapped before the file can be checked."""
        return self.options.format == UNKNOWN and "by_hand" in self.fields

    @property
    def usual_columns(self) -> list[forms.BoundField]:
        return [self[f"column_{role}"] for role in USUAL]

    @property
    def further_columns(self) -> list[forms.BoundField]:
        return [self[f"column_{role}"] for role in ROLES if role not in USUAL]

    @property
    def maps_further(self) -> bool:
        """Return whether a further column is mapped, or a value has a meaning."""
        return any(field.value() for field in (*self.further_columns, *self.meaning_fields))

    @property
    def meaning_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name.startswith("meaning_")]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("by_hand") and (problem := self._mapping().problem()):
            self.add_error(None, problem)
        elif self.options.format == UNKNOWN and not cleaned.get("by_hand"):
            self.add_error(None, _("Say which column is the prompt."))
        return cleaned

    def read_otherwise(self) -> dict[str, str]:
        """Return what changes the file's lines: another encoding, or another sheet. Mostly nothing."""
        given = {name: self.cleaned_data.get(name, "") for name in ("encoding", "sheet")}
        return {
            name: value for name, value in given.items() if value and value != getattr(self.options, name)
        }

    def chosen(self) -> Options:
        """Return the options that the form says, but for what changes the file's lines."""
        given = self.cleaned_data
        options = replace(
            self.options,
            pairs=given.get("pairs") or "all",
            without_losses=bool(given.get("without_losses")),
            empty=bool(given.get("empty")),
            becomes=given.get("becomes", ""),
        )
        if not given.get("by_hand"):
            if options.format == MAPPED:  # back to what was recognised
                return replace(options, format=options.recognised, becomes=options.usual)
            return options
        by_hand = self._mapping()
        same = self.options.format == MAPPED and self.options.columns_mapped == by_hand.columns
        return replace(
            options,
            format=MAPPED,
            columns_mapped=by_hand.columns,
            meanings=by_hand.meanings,
            becomes=options.becomes if same and options.becomes else by_hand.becomes,
        )

    def _mapping(self) -> ByHand:
        given = self.cleaned_data
        columns = {role: given[f"column_{role}"] for role in ROLES if given.get(f"column_{role}")}
        meanings = {given[f"meaning_{key}"]: key for key in MEANINGS if given.get(f"meaning_{key}")}
        return ByHand(columns, meanings)


def becomes_choices(options: Options, figures: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return what rows may become, each with how many there are of it in the file."""
    pairs, opinions, prompts = (figures.get(name, 0) for name in ("pairs", "opinions", "prompts"))
    count = figures.get("best", 0) if options.pairs == "best" else pairs
    choices = {
        "": (options.format == ROWS, _("What each row says"), 0),
        "prompts": (True, _("Prompts, for your model to complete"), prompts),
        "comparisons": (
            options.format == ROWS or pairs,
            _("Comparisons, for your annotators to judge"),
            count,
        ),
        "judged": (opinions, _("Judged pairs, with the verdicts in the file"), opinions),
        "gold": (options.format == ROWS or opinions, _("Gold, to test annotators by"), count),
    }
    return [
        (name, f"{label} ({number:,})" if number else str(label))
        for name, (is_offered, label, number) in choices.items()
        if is_offered or name == options.becomes
    ]
