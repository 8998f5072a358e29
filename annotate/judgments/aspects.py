"""A project's reasons and criteria, as judgments hold them: found by key, and counted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Count, Q, TextField
from django.db.models.functions import Cast

from annotate.models import Aspect, Judgment, Project


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
    current = Judgment.objects.current().filter(project=project)
    reasons, criteria = project.all_reasons, project.all_criteria
    text = current.exclude(reasons=[]).annotate(text=Cast("reasons", TextField()))
    return {
        "reasons": _counts(text, reasons, {one.key: Q(text__contains=f'"{one.key}"') for one in reasons}),
        "criteria": _counts(current, criteria, {one.key: Q(criteria__has_key=one.key) for one in criteria}),
    }


def _counts(judgments: Any, aspects: Sequence[Aspect], holding: Mapping[str, Q]) -> dict[str, int]:
    if not aspects:
        return {}
    columns = {f"n{number}": Count("pk", filter=holding[one.key]) for number, one in enumerate(aspects)}
    counts = judgments.aggregate(**columns)
    return {one.key: counts[f"n{number}"] for number, one in enumerate(aspects)}
