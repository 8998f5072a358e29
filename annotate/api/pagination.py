"""Pages of a list by cursor: stable while rows arrive, and as fast at the end as at the start."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import Model, QuerySet
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from annotate.text.json_values import INTEGER


class ByKey(CursorPagination):
    """`?page_size=` up to 1,000; `next` in the answer is the address of the next page, or null."""

    ordering = "pk"
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000

    def get_page_size(self, request: Request) -> int | None:
        """Return how many rows a page has. Raises ValidationError for anything else."""
        given = request.query_params.get("page_size", "1")
        if not re.fullmatch("[0-9]{1,19}", given) or int(given) == 0:
            raise ValidationError({"page_size": [_("Must be a whole number from 1 to 1,000.")]})
        return super().get_page_size(request)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the request's cursor, whose position is a key. Raises ValidationError for any other."""
        try:
            cursor: Any = super().decode_cursor(request)
        except NotFound:
            raise _unknown_cursor() from None
        if cursor and cursor.position is not None and not self.is_position(cursor.position):
            raise _unknown_cursor()
        return cursor  # type: ignore[no-any-return] # the stubs take its position for a number

    def is_position(self, position: str) -> bool:
        return re.fullmatch("[0-9]{1,19}", position) is not None and int(position) < INTEGER


class NewestFirst(ByKey):
    """The same from the newest row on."""

    ordering = "-pk"


class LatestFirst(ByKey):
    """The same by the time at which rows were made, for rows without a number."""

    ordering = "-created_at"

    def is_position(self, position: str) -> bool:
        try:
            found = parse_datetime(position)
        except ValueError:
            return False
        return found is not None and found.utcoffset() == timedelta(0)


def page_of(
    request: Request,
    rows: QuerySet[Any],
    serializer: type[BaseSerializer[Any]],
    paginator: type[ByKey] = ByKey,
    complete: Callable[[list[Any]], None] | None = None,
) -> Response:
    """Return a page of rows, as the query of the request asks for it. `complete` adds to them what no column holds."""
    pages = paginator()
    found: list[Model] = pages.paginate_queryset(rows, request) or []
    if complete:
        complete(found)
    return pages.get_paginated_response(serializer(found, many=True).data)


def _unknown_cursor() -> ValidationError:
    return ValidationError(
        {"cursor": [_("This cursor is unknown. Take it from “next” of the page before it.")]}
    )
