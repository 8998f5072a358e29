"""Slowing down whoever guesses: how many failures a key may have within a window of time.

Counts live in the cache that all processes share. Two failures at the very same moment may count as one: that
costs a guesser's opponent nothing.
"""

import hashlib
import time
from dataclasses import dataclass

from django.core.cache import cache


@dataclass(frozen=True)
class Throttle:
    """At most `limit` failures of one key in each window of `seconds`."""

    name: str
    limit: int
    seconds: int

    def wait(self, key: str) -> int:
        """Seconds until this key may try again: 0 while it may."""
        if cache.get(self._slot(key), 0) < self.limit:
            return 0
        return self.seconds - int(time.time()) % self.seconds

    def count(self, key: str) -> None:
        """Note a failure."""
        slot = self._slot(key)
        if not cache.add(slot, 1, timeout=self.seconds):
            cache.set(slot, cache.get(slot, 0) + 1, timeout=self.seconds)

    def forget(self, key: str) -> None:
        cache.delete(self._slot(key))

    def _slot(self, key: str) -> str:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.name}:{digest}:{int(time.time()) // self.seconds}"


LOGIN = Throttle("login", limit=10, seconds=600)
PASSWORD = Throttle("password", limit=10, seconds=600)  # of somebody signed in, about to choose a new one
TOKEN = Throttle("token", limit=30, seconds=60)
