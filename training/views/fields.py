"""Form fields for options that are lists."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))


class TextsField(forms.CharField):
    """A list of short texts, one a line. A line break inside a text is written as backslash and n."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, strip=False, required=False, max_length=10_000)
        self.widget.attrs |= {"rows": 2, "spellcheck": "false"}
        self.help_text = _("%(text)s One a line; \\n is a line break.") % {"text": self.help_text}

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the field for a list."""
        return value if isinstance(value, str) else "\n".join(_escaped(one) for one in value or ())

    def to_python(self, value: Any) -> Any:
        """Return the list that the field's text stands for. Lines of nothing are passed over."""
        text = super().to_python(value) or ""
        return [_unescaped(line) for line in text.replace("\r\n", "\n").split("\n") if line]


def _escaped(text: str) -> str:
    for plain, written in _ESCAPES:
        text = text.replace(plain, written)
    return text


def _unescaped(line: str) -> str:
    named = {written: plain for plain, written in _ESCAPES}
    found, rest = [], line
    while rest:
        width = 2 if rest[:2] in named else 1
        found.append(named.get(rest[:2], rest[:1]))
        rest = rest[width:]
    return "".join(found)
