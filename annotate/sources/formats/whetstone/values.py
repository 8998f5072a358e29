"""Values that several of Whetstone's own formats have."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.tables import TableRow


def has_cells(record: Record, key: str) -> bool:
    """Return whether a record has cells instead of values: it is of a table, or this key, of a list, holds a text.

    In JSON a chat is a list, and a text is a text, even one that is the JSON of a chat.
    """
    return isinstance(record, TableRow) or isinstance(record.get(key), str)


def read_object(record: Record, key: str) -> dict[str, Any] | None:
    value = fields.cell(record.get(key))
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise RecordError(_("%(name)s must be an object.") % {"name": key}, key)
    return value


def read_flag(record: Record, key: str) -> bool:
    value = record.get(key)
    if isinstance(value, str):
        value = {"true": True, "false": False, "": False}.get(value.strip().lower(), value)
    if value is not None and not isinstance(value, bool):
        raise RecordError(_("%(name)s must be true or false.") % {"name": key}, key)
    return bool(value)


def read_strength(said: Mapping[str, Any], name: str) -> int | None:
    """Return the strength of a preference, a whole number. Raises RecordError, which calls it `name`."""
    if said.get("strength") is None:
        return None
    strength = fields.number(said["strength"], name)
    if not strength.is_integer():
        raise RecordError(_("The strength of a preference must be 1, 2 or 3."), name)
    return int(strength)


def find_left_out(record: Record) -> dict[str, int]:
    """Return what a project decides itself of its prompts and comparisons, if the one that wrote the record did."""
    has_arm = record.get("arm") not in (None, "") or record.get("propensity") not in (None, "")
    said = {"held_out": record.get("held_out") in (True, "true", "True"), "arms": has_arm}
    return {name: 1 for name, is_said in said.items() if is_said}
