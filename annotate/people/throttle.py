"""Limits on guessing: how many attempts a key has within a window of time.

Counts live in the database, so every process sees the same ones and no cache can lose them. An attempt is counted
before the password is checked: of sixty guesses that arrive at once, ten are checked.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Case, F, Q, When
from django.utils import timezone

from annotate.models import Attempts

KEPT = timedelta(days=1)  # longer than any window


@dataclass(frozen=True)
class Throttle:
    """At most `limit` attempts of one key within any `seconds`; a success gives them back (`forget`)."""

    name: str
    limit: int
    seconds: int

    def admit(self, key: str) -> int:
        """Count an attempt and return 0, or return the seconds until the key may try again."""
        slot, now, window = self._slot(key), timezone.now(), timedelta(seconds=self.seconds)
        rows = Attempts.objects.filter(pk=slot)
        # The second half is for a clock that was ahead and has been put right.
        is_over = Q(last_at__lt=now - window) | Q(last_at__gt=now + window)
        for _ in range(2):
            counted = rows.filter(is_over | Q(count__lt=self.limit)).update(
                count=Case(When(is_over, then=1), default=F("count") + 1), last_at=now
            )
            if counted:
                return 0
            last = rows.values_list("last_at", flat=True).first()
            if last is not None:
                return max(1, int((last + window - now).total_seconds()))
            if _create(slot, now):
                return 0
        return 1

    def forget(self, key: str) -> None:
        """Give a key its attempts back, after a success."""
        Attempts.objects.filter(pk=self._slot(key)).delete()

    def _slot(self, key: str) -> str:
        return f"{self.name}:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _create(slot: str, now: datetime) -> bool:
    """Start counting for a slot, and drop what is old. Return False if another process was first."""
    Attempts.objects.filter(last_at__lt=now - KEPT).delete()
    try:
        with transaction.atomic():
            Attempts.objects.create(key=slot, count=1, last_at=now)
    except IntegrityError:
        return False
    return True
