"""A project's reasons and criteria, as judgments hold them: found by key, and counted."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Count, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.text import slugify

from annotate.models import Aspect, Judgment, Project
from annotate.models.aspects import ASPECT_COLUMNS, new_key


def find_aspect(aspects: Sequence[Aspect], name: object) -> Aspect | None:
    """Return the aspect with this key, a removed one too. A title is understood where no key is."""
    by_key = (one for one in aspects if one.key == name)
    by_title = (one for one in aspects if one.title == name)
    return next(by_key, None) or next(by_title, None)


def titles_of(aspects: Sequence[Aspect], keys: Iterable[str]) -> list[str]:
    """Return these keys' titles."""
    titles = {one.key: one.title for one in aspects}
    return [titles.get(key, key) for key in keys]


def count_holders(project: Project) -> dict[str, dict[str, int]]:
    """Count the current judgments that hold each reason and each criterion, by column and key."""
    return _count_in(project, Judgment.objects.current())


def drop_unheld(project: Project) -> None:
    """Drop the aspects of files that no judgment holds any more, of history neither. The project is locked."""
    project.refresh_from_db(fields=ASPECT_COLUMNS)
    if not any(one.get("imported") for kind in ASPECT_COLUMNS for one in getattr(project, kind)):
        return
    held = _count_in(project, Judgment.objects.all())
    for kind, counts in held.items():
        stored = getattr(project, kind)
        kept = [
            one for one in stored if not (one.get("imported") and one.get("removed")) or counts[one["key"]]
        ]
        setattr(project, kind, kept)
    project.save(update_fields=ASPECT_COLUMNS)


def _count_in(project: Project, judgments: QuerySet[Judgment]) -> dict[str, dict[str, int]]:
    judgments = judgments.filter(project=project)
    reasons, criteria = project.all_reasons, project.all_criteria
    text = judgments.exclude(reasons=[]).annotate(text=Cast("reasons", TextField()))
    return {
        "reasons": _counts(text, reasons, {one.key: Q(text__contains=f'"{one.key}"') for one in reasons}),
        "criteria": _counts(judgments, criteria, {one.key: Q(criteria__has_key=one.key) for one in criteria}),
    }


def _counts(judgments: Any, aspects: Sequence[Aspect], holding: Mapping[str, Q]) -> dict[str, int]:
    if not aspects:
        return {}
    columns = {f"n{number}": Count("pk", filter=holding[one.key]) for number, one in enumerate(aspects)}
    counts = judgments.aggregate(**columns)
    return {one.key: counts[f"n{number}"] for number, one in enumerate(aspects)}


# --- Named by files ----------------------------------------------------------------------------------------------

KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


class KnownAspects:
    """A project's aspects of one kind, removed ones too, with those that a file adds, which no annotator is asked for.

    `kind` is the column that holds them: `reasons` or `criteria`. The title decides which is meant: keys are made of
    titles, and two projects may give one key to two criteria.
    """

    def __init__(self, project: Project, kind: str) -> None:
        self.project, self.kind = project, kind
        stored = project.all_reasons if kind == "reasons" else project.all_criteria
        self._by_key = {one.key: one for one in stored}
        # Of two with one title, the one that is asked for.
        ordered = sorted(stored, key=lambda one: not one.is_removed)
        self._keys = {one.title: one.key for one in ordered}
        self._stored = set(self._by_key)

    def find(self, title: str, key: str = "") -> str:
        """Return the key of an aspect that a file calls so. One that the project does not have is added.

        An older file says the `key` alone.
        """
        if found := self._keys.get(title or key):
            return found
        same = self._by_key.get(key)
        if not title and same and slugify(same.title) == key:
            return key
        title = title or key
        is_free = KEY.fullmatch(key) is not None and key not in self._by_key
        added = Aspect(
            key if is_free else new_key(title, self._by_key), title, is_removed=True, is_imported=True
        )
        self._by_key[added.key], self._keys[title] = added, added.key
        return added.key

    def store(self, used: Iterable[str]) -> None:
        """Keep those of the aspects with these keys that the project, which is locked, does not have."""
        if used := set(used) - self._stored:
            self._stored |= used
            column = [one.stored() for key, one in self._by_key.items() if key in self._stored]
            Project.objects.filter(pk=self.project.pk).update(**{self.kind: column})
