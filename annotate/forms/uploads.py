"""The form of an import: a file, or prompts typed in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings as site
from django.core.files.base import ContentFile, File
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from annotate.imports.reader import guess_format


class UploadForm(forms.Form):
    """A file of prompts or pairs, or prompts typed in."""

    FORMATS = [
        ("", _("By the file’s name")),
        ("jsonl", _("JSON Lines")),
        ("csv", _("CSV with a header")),
        ("txt", _("One prompt a line")),
    ]

    file = forms.FileField(required=False, label=_("File"), allow_empty_file=True)
    format = forms.ChoiceField(required=False, choices=FORMATS)
    text = forms.CharField(
        required=False,
        strip=False,
        label=_("Or paste prompts"),
        help_text=_("One a line."),
        widget=forms.Textarea(attrs={"rows": 5}),
    )

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
        if bool(file) == bool(text.strip()):
            self.add_error("file", _("Choose a file, or paste prompts: one of the two."))
        elif text.strip():
            cleaned["file"] = ContentFile(text.encode("utf-8", "replace"), name="")
            cleaned["format"] = "txt"
        elif file:
            cleaned["format"] = cleaned.get("format") or guess_format(file.name or "")
        return cleaned
