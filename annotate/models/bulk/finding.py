"""Many rows of a project found by texts in a column: one look at its index for each text."""

import json
from collections.abc import Collection
from typing import Any

from django.db import connection
from django.db.models import Model

WANTED = "json_array_elements_text(%s::json) AS wanted(value)"  # psycopg takes long to write an array


def find_keys(model: type[Model], project: int, column: str, values: Collection[str]) -> list[int]:
    """Return the keys of a project's rows that have one of many texts in a column: one look at its index for each.

    A plain `IN` is a join that PostgreSQL plans by its statistics. During a first import they say that the project is
    empty, and each chunk would read all of it. So the project is a column of the join, too, and not a value to plan by.
    """
    if not values:
        return []
    if connection.vendor != "postgresql":
        rows = model._default_manager.filter(project=project, **{f"{column}__in": values})
        return list(rows.values_list("pk", flat=True))
    table, name = map(connection.ops.quote_name, (model._meta.db_table, column))
    one = (
        f"SELECT id FROM {table} "  # noqa: S608 - of models
        f"WHERE project_id = here.project AND {name} = wanted.value AND {name} <> '' OFFSET 0"
    )
    each = (
        "SELECT found.id FROM (SELECT %s::bigint AS project OFFSET 0) AS here "  # noqa: S608 - of models
        f"CROSS JOIN {WANTED} CROSS JOIN LATERAL ({one}) AS found"
    )
    with connection.cursor() as cursor:
        cursor.execute(each, [project, json.dumps(list(values))])
        return [key for (key,) in cursor.fetchall()]


def find_named(
    model: type[Model], project: int, external_ids: Collection[str], column: str, most: int
) -> list[tuple[str, Any]]:
    """Return (external id, value of a column) of a project's rows, `most` of them for each id that many may share."""
    if not external_ids:
        return []
    table, name = map(connection.ops.quote_name, (model._meta.db_table, column))
    values: tuple[Any, ...]
    if connection.vendor == "postgresql":
        each = (
            f"SELECT wanted.value, found.{name} "  # noqa: S608 - of models
            f"FROM (SELECT %s::bigint AS project OFFSET 0) AS here CROSS JOIN {WANTED} "
            f"CROSS JOIN LATERAL (SELECT * FROM {table} WHERE project_id = here.project "
            "AND external_id = wanted.value AND external_id <> '' LIMIT %s) AS found"
        )
        values = project, json.dumps(list(external_ids)), most
    else:
        each = (
            f"SELECT wanted.value, found.{name} "  # noqa: S608 - of models
            f"FROM json_each(%s) AS wanted CROSS JOIN {table} AS found WHERE found.id IN (SELECT id FROM {table} "
            "WHERE project_id = %s AND external_id = wanted.value AND NOT (external_id = '') LIMIT %s)"
        )
        values = json.dumps(list(external_ids)), project, most
    with connection.cursor() as cursor:
        cursor.execute(each, values)
        return [(external_id, value) for external_id, value in cursor.fetchall()]
