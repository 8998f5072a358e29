"""Form fields for the JSON columns of a project: lists of phrases and objects of settings."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _

from annotate.text.json_values import JSONError, parse_json
from primitives.text import is_storable

OBJECT_LIMIT = 64 * 1024  # characters of JSON typed into a form
_refuse_null = ProhibitNullCharactersValidator()


class ProseField(forms.CharField):
    """A text of several lines. A browser sends other line ends than those that it was shown, which changes nothing.

    Its form is to keep the text of before if it has not changed, whatever its line ends were.
    """

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.replace("\r\n", "\n").replace("\r", "\n") if isinstance(text, str) else text

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.to_python(initial), data)


class LinesField(forms.CharField):
    """A JSON list of short phrases, edited as text with one phrase a line."""

    widget = forms.Textarea(attrs={"rows": 4})

    def __init__(self, *, most: int, longest: int = 60, **kwargs: Any) -> None:
        self.most, self.longest = most, longest
        super().__init__(required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        lines = [" ".join(line.split()) for line in str(value or "").splitlines()]
        return list(dict.fromkeys(line for line in lines if line))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(self.prepare_value(initial)) != self.to_python(data))

    def validate(self, value: Any) -> None:
        super().validate(value)
        if len(value) > self.most:
            raise ValidationError(
                _("At most %(most)d lines: this has %(count)d."),
                params={"most": self.most, "count": len(value)},
            )
        for number, line in enumerate(value, start=1):
            if len(line) > self.longest:
                raise ValidationError(
                    _("Line %(number)d is longer than %(longest)d characters."),
                    params={"number": number, "longest": self.longest},
                )

    def run_validators(self, value: Any) -> None:
        # Django's validator looks for NUL in the text of a list, where it is written as an escape.
        for line in value:
            _refuse_null(line)
        super().run_validators(value)


class CheckedJSONField(forms.JSONField):
    """JSON typed into a form: refused with a sentence where the database could not hold it."""

    def to_python(self, value: Any) -> Any:
        if self.disabled or value in self.empty_values or not isinstance(value, str):
            return super().to_python(value)
        if len(value) > OBJECT_LIMIT:
            raise ValidationError(
                _("At most %(limit)s characters: this has %(count)s."),
                params={"limit": f"{OBJECT_LIMIT:,}", "count": f"{len(value):,}"},
            )
        try:
            parse_json(value)
        except JSONError as error:
            raise ValidationError(str(error), code="invalid") from error
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what the form shows again: what cannot be parsed as it was typed."""
        if self.disabled or data is None:
            return super().bound_data(data, initial)
        try:
            return parse_json(data)
        except JSONError:
            return InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        shown = super().prepare_value(value)
        if isinstance(value, InvalidJSONInput) or is_storable(shown):
            return shown
        # A page in UTF-8 cannot hold half a character: a stored one is shown as its escape.
        return json.dumps(value, cls=self.encoder)


class ObjectField(CheckedJSONField):
    """A JSON object: {"key": value, ...}."""

    widget = forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def clean(self, value: Any) -> Any:
        value = super().clean(value)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValidationError(_('Write a JSON object, such as {"beta": 0.1}.'))
        return value
