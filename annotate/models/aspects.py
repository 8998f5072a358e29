"""Reasons and criteria: what a project asks for beside the verdict, each with a stable key and a title.

A project stores them as a JSON list of {"key", "title"}, with "removed" where one is no longer asked for, and
"imported" where a file named it. Judgments name them by key, so that a new title changes nothing that was said.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from django.utils.text import slugify

ASPECT_COLUMNS = ("reasons", "criteria")  # of a project
LONGEST_KEY = 40


@dataclass(frozen=True)
class Aspect:
    """A reason or a criterion. A removed one keeps its key, and its title for the judgments that hold it.

    An imported one was named by a file, and was never asked for.
    """

    key: str
    title: str
    is_removed: bool = False
    is_imported: bool = False

    def stored(self) -> dict[str, Any]:
        """Return the aspect as a project's column holds it."""
        marks = {"removed": self.is_removed, "imported": self.is_imported}
        return {"key": self.key, "title": self.title} | {name: True for name, is_so in marks.items() if is_so}


def read_aspects(stored: Iterable[Mapping[str, Any]]) -> list[Aspect]:
    """Return the aspects that a project's column holds, removed ones too."""
    return [
        Aspect(one["key"], one["title"], bool(one.get("removed")), bool(one.get("imported")))
        for one in stored
    ]


def new_key(title: str, taken: Container[str]) -> str:
    """Return a key for a new aspect: its title in plain letters, with a number where that is taken."""
    stem = slugify(title)[:LONGEST_KEY].strip("-")
    keys = (f"{stem or 'key'}-{number}" for number in count(2 if stem else 1))
    return stem if stem and stem not in taken else next(key for key in keys if key not in taken)


def stored_aspects(titles: Iterable[str]) -> list[dict[str, Any]]:
    """Return the column of a project that asks for aspects with these titles."""
    stored: dict[str, dict[str, Any]] = {}
    for title in titles:
        aspect = Aspect(new_key(title, stored), title)
        stored[aspect.key] = aspect.stored()
    return list(stored.values())
