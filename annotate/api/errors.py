"""One shape for every error: {"error": "a sentence", "field": "the field it speaks of, or null"}."""

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from django.template.defaultfilters import filesizeformat
from django.utils.choices import flatten_choices
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from annotate.api.shapes.base import name_choices
from annotate.errors import NOTHING_HERE, MissingError, RefusalError

SENTENCE_LIMIT = 1_000  # characters
MOST_CHOICES = 60  # that an error names


def read_errors(form: forms.BaseForm) -> dict[str, list[str]]:
    """Return the errors of a form by its fields. Where a choice is not known, the known ones are named."""
    return {
        name: [_sentence(form, name, error) for error in errors]
        for name, errors in form.errors.as_data().items()
    }


def _sentence(form: forms.BaseForm, name: str, error: DjangoValidationError) -> str:
    field: Any = form.fields.get(name)
    # The rows that a ModelChoiceField knows are no choices to name.
    if error.code == "invalid_choice" and type(field) in (forms.ChoiceField, forms.TypedChoiceField):
        choices: Iterable[Any] = flatten_choices(field.choices)
        known = [choice[0] for choice in choices]
        if len(known) <= MOST_CHOICES:
            return name_choices(known)
    return " ".join(error.messages)


class TooLargeError(exceptions.APIException):
    status_code = 413

    def __init__(self) -> None:
        limit = filesizeformat(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)
        super().__init__(_("The body is larger than %(limit)s: send it in parts.") % {"limit": limit})


class ConflictError(exceptions.APIException):
    """The refusal of an act that comes too late, or too early: nothing was changed."""

    status_code = 409


class RowsRefusedError(exceptions.ValidationError):
    """Rows of a batch that cannot be used: nothing of the batch was taken. `rows` holds (position, sentence)."""

    def __init__(self, name: str, rows: Sequence[tuple[int, str]], total: int) -> None:
        self.rows = rows
        position, sentence = rows[0]
        message = ngettext(
            "%(wrong)d of %(total)d row cannot be used, and nothing was created. Row %(row)d: %(sentence)s",
            "%(wrong)d of %(total)d rows cannot be used, and nothing was created. Row %(row)d: %(sentence)s",
            total,
        )
        words = {"wrong": len(rows), "total": total, "row": position, "sentence": sentence}
        super().__init__({f"{name}.{position}": [message % words]})


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an error in one shape, as Django REST framework's exception handler.

    Anything unexpected is left to Django, and its log."""
    if isinstance(error, MissingError):
        error = exceptions.NotFound(str(error))
    elif isinstance(error, Http404):
        error = exceptions.NotFound(NOTHING_HERE)
    elif isinstance(error, RequestDataTooBig):
        error = TooLargeError()
    elif isinstance(error, RefusalError):
        error = exceptions.ValidationError({error.field or "non_field_errors": [error.message]})
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied(str(error) or None)
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    sentence, field = first_error(error.detail)
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(getattr(error, "auth_header", ""))
    # Some of Django's and the framework's sentences hold the whole value that was sent.
    body: dict[str, Any] = {"error": sentence[:SENTENCE_LIMIT], "field": field}
    if isinstance(error, RowsRefusedError):
        body["rows"] = [{"row": position, "error": sentence} for position, sentence in error.rows]
    return Response(body, status=error.status_code, headers=headers)


def first_error(detail: Any, field: str | None = None) -> tuple[str, str | None]:
    """Return the first error in a serializer's nested details, with the path to its field ("prompts.3.content")."""
    if isinstance(detail, dict):
        key, value = next(iter(detail.items()))
        if key == "non_field_errors":
            return first_error(value, field)
        return first_error(value, str(key) if field is None else f"{field}.{key}")
    if isinstance(detail, list):
        for position, item in enumerate(detail):
            if isinstance(item, dict) and not item:
                continue  # a valid item of a list
            nested = f"{field or 'items'}.{position}" if isinstance(item, dict) else field
            return first_error(item, nested)
    return str(detail), field
