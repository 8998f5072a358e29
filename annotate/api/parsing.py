"""Reading queries, and bodies of JSON.

Django bounds the size of a body (DATA_UPLOAD_MAX_MEMORY_SIZE), `json_values` what is in it.
"""

from collections.abc import Container, Iterable, Mapping
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import JSONParser

from annotate.text.json_values import DEPTH, JSONError, parse_json
from primitives.text import printable

MARKS = 200_000  # for 2 MB of rows: their memory stays below 50 MB


def refuse_unknown(names: Iterable[str], known: Container[str]) -> None:
    """Refuse a query with a name that the address does not know. Raises ValidationError."""
    for name in names:
        if name not in known:
            raise ValidationError({printable(name): [_("Unknown filter.")]})


class BoundedJSONParser(JSONParser):
    """JSON that can be stored. The error names the value at fault as its field."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            # {"prompts": [{"metadata": what may be so deep}]}
            return parse_json(stream.read(), depth=DEPTH + 3, marks=MARKS)
        except JSONError as error:
            if not error.path:
                raise ParseError(str(error)) from None
            field = ".".join(printable(str(step)) for step in error.path)
            raise ValidationError({field: [str(error)]}) from None
