"""Rows that an admin takes out of use or puts back, each time with an entry in the trail."""

from typing import Any

from django.db import transaction

from annotate.models import Comparison, Prompt, TrailEntry, User
from annotate.projects import trail


def withdraw(row: Comparison | Prompt, by: User, **details: Any) -> bool:
    """Take a comparison or a prompt out of use. Return False if it was."""
    with transaction.atomic():
        return row.withdraw() and _record(TrailEntry.Verb.TAKEN_OUT, row, by, details)


def put_back(row: Comparison | Prompt, by: User, **details: Any) -> bool:
    """Undo `withdraw`. Return False if there was nothing to undo."""
    with transaction.atomic():
        return row.restore() and _record(TrailEntry.Verb.PUT_BACK, row, by, details)


def _record(verb: TrailEntry.Verb, row: Comparison | Prompt, by: User, details: dict[str, Any]) -> bool:
    trail.record(verb, by, project=row.project, target=f"{row._meta.verbose_name} #{row.pk}", **details)
    return True
