"""Attempts at a password, counted."""

from __future__ import annotations

from django.db import models


class Attempts(models.Model):
    """The tries of one key. Only `annotate.people.throttle` reads and writes them."""

    key = models.CharField(max_length=100, primary_key=True, editable=False)
    count = models.PositiveIntegerField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "attempts"

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"
