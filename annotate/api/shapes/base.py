"""The bases of all shapes."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.utils.translation import gettext as _
from rest_framework import serializers

from annotate.text.json_values import INTEGER
from primitives.text import printable


class Shape(serializers.Serializer[Any]):
    """An object that the API answers with."""

    EXAMPLE: ClassVar[Any] = None


def name_choices(choices: Iterable[Any]) -> str:
    """Return a sentence for a value that is none of these."""
    return _("It is one of these: %(choices)s.") % {"choices": ", ".join(filter(None, map(str, choices)))}


class StrictSerializer(serializers.Serializer[None]):
    """Refuses keys that it does not know: a misspelt one must not be ignored. Names the choices that there are."""

    EXAMPLE: ClassVar[Any] = None

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            if isinstance(field, serializers.ChoiceField):
                field.error_messages["invalid_choice"] = name_choices(field.choices)
        return fields

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            for name in data:
                if name not in self.fields:
                    raise serializers.ValidationError({printable(str(name)): _("Unknown field.")})
        return super().to_internal_value(data)


class WholeNumber(serializers.IntegerField):
    """A whole number that a column can hold, written as text too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": -INTEGER, "max_value": INTEGER - 1, **options})


class Note(serializers.Field[Any, Any, Any, Any]):
    """A value that no field describes, such as one of two types. `schema` says what it may be."""

    def __init__(self, schema: dict[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.schema = schema

    def to_representation(self, value: Any) -> Any:
        return value


class ErrorOut(Shape):
    """Every error: a sentence, and the path to the field that it speaks of, or null."""

    EXAMPLE = {"error": "There is no such project, or you are not a member of it.", "field": None}

    error = serializers.CharField()
    field = serializers.CharField(allow_null=True)


class RowErrorOut(Shape):
    EXAMPLE = {"row": 1, "error": "prompt is empty."}

    row = serializers.IntegerField()
    error = serializers.CharField()


class RowsRefusedOut(ErrorOut):
    """An error that may be about some rows of a batch, which are then named."""

    EXAMPLE = {
        "error": "1 of 2 rows cannot be used, and nothing was created. Row 1: prompt is empty.",
        "field": "prompts.1",
        "rows": [RowErrorOut.EXAMPLE],
    }

    rows = RowErrorOut(many=True, required=False)


class ShareOut(Shape):
    """A share of counted things: null where nothing was counted. Wilson's interval is at 95 %.

    Where annotators agree, the unit of the interval is the comparison, not the pair of verdicts.
    """

    EXAMPLE = {"count": 18, "total": 20, "share": 0.9, "low": 0.7, "high": 0.97}

    count = serializers.FloatField()
    total = serializers.FloatField()
    share = serializers.FloatField(allow_null=True)
    low = serializers.FloatField()
    high = serializers.FloatField()


class EstimateOut(Shape):
    """A figure with its interval at 95 %. `count` is how many observations are behind it."""

    EXAMPLE = {"value": 0.62, "low": 0.51, "high": 0.72, "count": 40.0}

    value = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    count = serializers.FloatField()
