"""Changes that the database by itself refuses."""

from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, transaction


def refuses(change: Callable[[], Any]) -> bool:
    """Return whether the database refuses this change."""
    try:
        with transaction.atomic():
            change()
    except IntegrityError:
        return True
    return False
