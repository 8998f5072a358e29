"""A restoration under way: the ids, people and places of an archive as they are here, and its rows written by them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import BaseValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Count
from django.utils.translation import gettext as _

from annotate.models import Claim, Comparison, User
from annotate.models.bulk.storing import has_claims_first, write_rows
from annotate.people.pseudonyms import pseudonym
from primitives.chunks import chunks
from training.provenance.archive_format import ADAPTER, BATCHES, OF_AN_IMPORT, TABLES, Table
from training.provenance.archive_reader import ArchiveError, ArchiveReader, line_error
from training.standings.probed import rename_people

AT_A_TIME = 2_000
NOT_IN_THE_ARCHIVE = "runs/(not in the archive)/adapter"  # no round and no policy has such a folder
NO_POLICY = 2**63 - 1  # an id that none has
LONGEST = 2**31  # characters, of a text without a limit
COUNTERS = {  # state of a claim -> the counter of its comparison
    **dict.fromkeys(Claim.HOLDING, "claimed"),
    Claim.State.JUDGED: "judged",
    Claim.State.SKIPPED: "skipped",
}
TABLE_OF = {table.model: table.name for table in TABLES}


@dataclass
class Restoration:
    """A restoration under way: the new project, and what the ids, people and places of the archive are here."""

    reader: ArchiveReader
    slug: str
    shifts: dict[str, int] = field(default_factory=dict)  # table -> id here minus id there
    people: dict[int, int] = field(default_factory=dict)

    @property
    def project_id(self) -> int:
        return self.reader.ranges["project"].first + self.shifts["project"]

    def here(self, table: str, pk: Any) -> int:
        """Return the id here of an id in the archive. Raises ValueError for one of no row of the archive."""
        among = self.reader.ranges[table]
        if type(pk) is not int or not among.rows or not among.first <= pk <= among.last:
            raise ValueError(_("it names a row that the archive does not hold"))
        return pk + self.shifts[table]

    def last_judgment(self, pk: int | None) -> int | None:
        """Return the id here of the newest judgment at a moment, or of the newest of the archive before it."""
        if pk is None:
            return None
        return max(0, min(pk, self.reader.ranges["judgments"].last) + self.shifts["judgments"])

    def policies(self, settings: Any) -> Any:
        """Return settings of pairs with the ids here of the policies whose completions they take."""
        ids = settings.get("policies") if isinstance(settings, dict) else None
        if not isinstance(ids, list) or not ids:
            return settings
        found = []
        for pk in ids:
            try:
                found.append(self.here("policies", pk))
            except ValueError:  # of none, as it was there
                found.append(NO_POLICY)
        return settings | {"policies": found}

    def place(self, adapter: str) -> str:
        """Return the folder here, below var/, of an adapter of the archive."""
        found = ADAPTER.fullmatch(adapter)
        if found is None:
            raise ValueError(_("it names no adapter of the archive"))
        return (
            f"{self.folder(found[1])}/adapter" if found[1] else f"runs/{self.slug}-policy-{found[2]}/adapter"
        )

    def reference(self, adapter: Any) -> str:
        """Return the folder here of a round's reference, or one that cannot exist where the archive does not have it.

        A resumed round is then refused. Any other reference would train another policy.
        """
        return self.place(adapter) if ADAPTER.fullmatch(str(adapter)) else NOT_IN_THE_ARCHIVE

    def folder(self, number: Any) -> str:
        """Return the folder here, below var/, of a round by its number."""
        return f"runs/{self.slug}-{number}"

    def rename_people(self, done: dict[str, Any]) -> dict[str, Any]:
        """Return the reports of a round's verbs with people under their pseudonyms of here. Raises ValueError."""
        if "probe" not in done:
            return done
        names = {pseudonym(there): pseudonym(here) for there, here in self.people.items()}
        try:
            return done | {"probe": rename_people(done["probe"], names)}
        except (AttributeError, TypeError, ValueError):
            raise ValueError(_("what its probe says of annotators cannot be read")) from None


def insert_rows(restoration: Restoration, table: Table) -> None:
    """Insert a table's rows, in the order of their ids. The foreign keys are checked by the database at the end."""
    columns = _columns(table)
    rows, count = _rows(restoration, table), 0
    for some in chunks(rows, AT_A_TIME):
        if table.model is Comparison and has_claims_first():
            _count_claims(dict(some))
        write_rows(table.model, some, tuple(columns))
        count += len(some)
    if count != restoration.reader.ranges[table.name].rows:
        raise ArchiveError(
            _("The table %(name)s does not have the rows that the manifest says.") % {"name": table.name}
        )


def _columns(table: Table) -> dict[str, models.Field[Any, Any]]:
    """Return the columns to write, beside the key. What does not travel has its default."""
    return {
        one.attname: one
        for one in table.model._meta.concrete_fields
        if not one.primary_key and not one.generated
    }


def _count_claims(comparisons: dict[int, dict[str, Any]]) -> None:
    """Set the counters of comparisons, in the order of their ids, whose claims were inserted before them."""
    claims = Claim.objects.filter(
        comparison__gte=min(comparisons), comparison__lte=max(comparisons)
    ).order_by()
    for pk, state, count in claims.values_list("comparison", "state").annotate(count=Count("pk")):
        if state in COUNTERS and pk in comparisons:  # a claim of another one is refused by its key
            comparisons[pk][COUNTERS[state]] += count


def _rows(restoration: Restoration, table: Table) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (id here, columns) of each row."""
    fields = {one.name for one in table.fields}
    readers = {
        one.name: (one.attname, _value_reader(restoration, one))
        for one in table.fields
        if not one.primary_key
    }
    columns = _columns(table)
    before = 0
    for number, row in restoration.reader.rows(table.member):
        try:
            if unknown := row.keys() - fields:
                raise ValueError(_("this version knows no “%(name)s”") % {"name": min(unknown)})
            pk = restoration.here(table.name, row.pop("id", None))
            if pk <= before:
                raise ValueError(_("its id does not come after the one before it"))
            before = pk
            values: dict[str, Any] = {}
            for name, value in row.items():
                attname, read = readers[name]
                values[attname] = read(value)
            values |= {name: _default(columns[name]) for name in columns.keys() - values.keys()}
            yield pk, _adapted(restoration, table, values)
        except (ValueError, TypeError, OverflowError, ValidationError) as error:
            why = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
            raise line_error(table.member, number, why) from None
        except (KeyError, AttributeError):
            raise line_error(table.member, number, _("it lacks a field, or one is of another kind")) from None


def _default(one: models.Field[Any, Any]) -> Any:
    """Return what a column holds that the archive does not have. New tokens are drawn."""
    if isinstance(one, models.UUIDField):
        return uuid.uuid4()
    return one.db_default if one.has_db_default() and not one.has_default() else one.get_default()


def _value_reader(restoration: Restoration, one: models.Field[Any, Any]) -> Callable[[Any], Any]:
    """Return a function from a field's value in the archive to its value here.

    Values of the usual kinds are found to be right without a look at the field. `_value` reads the others.
    """
    if isinstance(one, models.DateTimeField):
        return lambda value: _moment(value) or _value(restoration, one, value)
    is_right = _usual(one)
    if one.related_model is not None or is_right is None or one.name in BATCHES:
        return lambda value: _value(restoration, one, value)
    return lambda value: value if is_right(value) else _value(restoration, one, value)


def _usual(one: models.Field[Any, Any]) -> Callable[[Any], bool] | None:
    """Return whether a value is right as it is, for fields of the usual kinds; None for the others."""
    limits = [
        check
        for check in one.validators
        if isinstance(check, BaseValidator) and not callable(check.limit_value)
    ]
    if len(limits) < len(one.validators):
        return None
    if one.choices:
        kind = int if isinstance(one, models.IntegerField) else str
        known = _choices(one)
        return lambda value: type(value) is kind and value in known
    if isinstance(one, models.IntegerField):
        low = max(check.limit_value for check in limits if isinstance(check, MinValueValidator))
        high = min(check.limit_value for check in limits if isinstance(check, MaxValueValidator))
        return lambda value: type(value) is int and low <= value <= high
    if isinstance(one, models.CharField | models.TextField):
        longest = min((check.limit_value for check in limits), default=LONGEST)
        return lambda value: type(value) is str and len(value) <= longest
    return (lambda value: type(value) is bool) if isinstance(one, models.BooleanField) else None


def _moment(value: Any) -> datetime | None:
    """Return a time with a zone, as archives write it; None for anything else."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


def _value(restoration: Restoration, one: models.Field[Any, Any], value: Any) -> Any:
    """Return a value of a row as its field holds it here. Raises ValueError or ValidationError."""
    if value is None:
        if not one.null:
            raise ValueError(_("%(name)s is missing") % {"name": one.name})
        return None
    related = one.related_model
    if related is User:
        if value not in restoration.people:
            raise ValueError(_("%(name)s is a person whom the archive does not know") % {"name": one.name})
        return restoration.people[value]
    if related is not None and not one.primary_key:
        return restoration.here(TABLE_OF[related], value)
    if isinstance(one, models.JSONField):
        if one.default in (dict, list) and not isinstance(value, one.default):
            raise ValueError(_("%(name)s is of another kind") % {"name": one.name})
        return value
    found = one.to_python(value)
    if found not in one.empty_values:
        one.run_validators(found)
    if one.choices and found != "" and found not in _choices(one):
        raise ValueError(_("%(name)s cannot be “%(value)s”") % {"name": one.name, "value": str(value)[:80]})
    if one.name in BATCHES and (named := OF_AN_IMPORT.fullmatch(found)):
        return _batch(restoration, int(named[1]))
    return found


@cache
def _choices(one: models.Field[Any, Any]) -> frozenset[Any]:
    """Return what a field may hold, which Django would list for every value."""
    return frozenset(key for key, _label in one.flatchoices)


def _batch(restoration: Restoration, pk: int) -> str:
    """Return the name here of what an import brought in. One that is gone must not be mistaken for one of here."""
    try:
        return f"import {restoration.here('imports', pk)}"
    except ValueError:
        return f"moved import {pk}"


def _is_texts(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _is_object(found: Any) -> bool:
    return isinstance(found, dict)


def _is_aspects(found: Any) -> bool:
    kinds = {"key": str, "title": str, "removed": bool, "imported": bool}
    return isinstance(found, list) and all(
        isinstance(one, dict)
        and {"key", "title"} <= one.keys() <= kinds.keys()
        and all(isinstance(value, kinds[name]) for name, value in one.items())
        for one in found
    )


def _is_counts(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("excluded", {}), dict):
        return False
    numbers = [*found.get("excluded", {}).values(), *(found[name] for name in found if name != "excluded")]
    return all(type(number) is int for number in numbers)


# What pages read of these columns without another look.
_KINDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "project": {
        "reasons": _is_aspects,
        "criteria": _is_aspects,
        "visible_metadata": _is_texts,
        "image_hosts": _is_texts,
        "training_settings": _is_object,
        "sampling_settings": _is_object,
    },
    "snapshots": {"settings": _is_object, "counts": _is_counts},
}


def _check_kinds(table: Table, values: dict[str, Any]) -> None:
    """Refuse a column of JSON that holds something else than it does here. Raises ValueError."""
    for name, is_kind in _KINDS.get(table.name, {}).items():
        if not is_kind(values[name]):
            raise ValueError(_("%(name)s is of another kind") % {"name": name})


def _adapted(restoration: Restoration, table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row, with what is different here: its slug, its folders, and how far a snapshot moved."""
    _check_kinds(table, values)
    match table.name:
        case "project":
            values |= {"slug": restoration.slug, "current_policy_id": None}
        case "policies" if values.get("adapter"):
            values["adapter"] = restoration.place(values["adapter"])
        case "rounds":
            values["folder"] = restoration.folder(values["number"])
            values["summary"] = restoration.rename_people(values["summary"])
            values["last_judgment"] = restoration.last_judgment(values["last_judgment"])
            if "pairs" in values["settings"]:
                values["settings"]["pairs"] = restoration.policies(values["settings"]["pairs"])
            config = values["settings"].get("config", {})
            if config.get("start_adapter"):
                config["start_adapter"] = restoration.place(config["start_adapter"])
            if config.get("reference", "start") not in ("start", "base"):
                config["reference"] = restoration.reference(config["reference"])
        case "snapshots":
            values["settings"] = restoration.policies(values["settings"])
            for name, shifted in (("comparison_shift", "comparisons"), ("judgment_shift", "judgments")):
                values[name] = values.get(name, 0) + restoration.shifts[shifted]
    return values
