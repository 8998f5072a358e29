"""Looking through a project's comparisons and prompts, newest first, at a cost that does not grow with the project.

Pages follow the primary key (no OFFSET, no COUNT). A filter may match rarely, so the search walks back over windows
of keys until the page is full or its time is up. Then it says how far it got, and can go on from there.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import Count, Exists, JSONField, OuterRef, Prefetch, Q, QuerySet, TextField
from django.db.models.expressions import F, Value
from django.db.models.fields.json import KeyTransform, KeyTransformExact
from django.db.models.functions import Cast
from django.db.models.lookups import IContains

from annotate.models import Comparison, Flag, Judgment, Project, Prompt, is_set_aside
from annotate.models.comparisons import ComparisonQuerySet
from annotate.models.texts import PromptQuerySet
from annotate.reports.prompt_figures import CONCERNS, add_figures, find_disputed, rank_prompts

PAGE = 50
FIRST_WINDOW, LARGEST_WINDOW = 2_000, 64_000  # keys
SECONDS = 0.4  # spent on one page
RANKING_SECONDS = 4.0  # on one ranking
MOST_COUNTED = 100_000  # prompts of one state, on their page
T = TypeVar("T")
# Columns of completions that a line does not show.
_LONG = (
    "token_ids",
    "prompt_token_ids",
    "text",
    "messages",
)


@dataclass(frozen=True)
class Page(Generic[T]):
    """Rows of one page. `older` is where the next page starts, or None at the end.

    `cut` says that the time was up before the page was full: older rows may still match.
    """

    rows: list[T]
    older: int | None
    cut: bool

    @classmethod
    def empty(cls) -> "Page[T]":
        return cls([], older=None, cut=False)


def browse(
    project: Project, filters: Mapping[str, Any], before: int | None = None, seconds: float = SECONDS
) -> Page[Comparison]:
    """Return the newest comparisons that match, older than the key `before`. `filters` is FilterForm's cleaned data."""
    everything = Comparison.objects.filter(project=project)
    keys, older, cut = _walk(everything, narrow(everything, filters), before, seconds)
    return Page(_with_details(keys), older, cut)


def browse_prompts(
    project: Project, filters: Mapping[str, Any], before: int | None = None, seconds: float = SECONDS
) -> Page[Prompt]:
    """Return the newest prompts that match, or those that an `order` puts first. `filters` is PromptListForm's data.

    An order is of the prompts in use, unless a state is asked for.
    """
    everything = Prompt.objects.filter(project=project)
    matching = narrow_prompts(everything, filters)
    if order := filters.get("order"):
        if not filters.get("state"):
            matching = matching.in_use()
        keys, older = rank_prompts(
            everything, matching, order, least=filters["least"], before=before, seconds=RANKING_SECONDS
        )
        return Page(_prompts_with_details(keys), older, older is not None)
    keys, older, cut = _walk(everything, matching, before, seconds)
    return Page(_prompts_with_details(keys), older, cut)


def find_prompt(project: Project, key: int) -> Prompt | None:
    """Return a prompt of the project with what a line of the list shows."""
    keys = list(Prompt.objects.filter(project=project, pk=key).values_list("pk", flat=True))
    return next(iter(_prompts_with_details(keys)), None)


def newest_comparisons(prompt: Prompt) -> tuple[list[Comparison], bool]:
    """Return a page of the prompt's newest comparisons, and whether it has more."""
    keys = list(prompt.comparisons.order_by("-pk").values_list("pk", flat=True)[: PAGE + 1])
    return _with_details(keys[:PAGE]), len(keys) > PAGE


def _prompts_with_details(keys: list[int]) -> list[Prompt]:
    """Return these prompts in this order, with what a line of the list shows."""
    rows = Prompt.objects.annotate(
        all_comparisons=Count("comparisons", distinct=True),
        live_comparisons=Count("comparisons", filter=Q(comparisons__withdrawn_at=None)),
        is_unanswered=Exists(Prompt.objects.unanswered().filter(pk=OuterRef("pk"))),
        is_unmeasured=Exists(Prompt.objects.unmeasured().filter(pk=OuterRef("pk"))),
    )
    found = rows.in_bulk(keys)
    prompts = [found[key] for key in keys if key in found]
    add_figures(prompts)
    return prompts


def count_prompts(project: Project) -> dict[str, int]:
    """Count the project's prompts by state, each no further than MOST_COUNTED."""
    prompts = Prompt.objects.filter(project=project)
    states = {
        "all": prompts,
        "in_use": prompts.in_use(),
        "held_out": prompts.in_use().filter(held_out=True),
        "uncompared": prompts.in_use().uncompared(),
        "withdrawn": prompts.filter(withdrawn_at__isnull=False),
    }
    return {name: found.order_by()[:MOST_COUNTED].count() for name, found in states.items()}


def _walk(
    everything: QuerySet[Any], matching: QuerySet[Any], before: int | None, seconds: float
) -> tuple[list[int], int | None, bool]:
    """Return a page of the newest keys that match, where the next page starts, and whether the time was up."""
    newest = everything.order_by("-pk").values_list("pk", flat=True).first()
    cursor = min(before, (newest or 0) + 1) if before else (newest or 0) + 1
    found: list[int] = []
    window, until = FIRST_WINDOW, time.monotonic() + seconds
    while cursor > 0 and len(found) <= PAGE:
        low = max(cursor - window, 0)
        started = time.monotonic()
        found += (
            matching.filter(pk__lt=cursor, pk__gte=low)
            .order_by("-pk")
            .values_list("pk", flat=True)[: PAGE + 1 - len(found)]
        )
        cursor = low
        if time.monotonic() > until:
            break
        if time.monotonic() - started < seconds / 4:
            window = min(2 * window, LARGEST_WINDOW)
    if len(found) > PAGE:
        return found[:PAGE], found[PAGE - 1], False
    return found, cursor or None, cursor > 0


def has_batch(project: Project, batch: str) -> bool:
    """Return whether something in the project is of this batch."""
    return any(model.objects.filter(project=project, batch=batch).exists() for model in (Prompt, Comparison))


def narrow_prompts(prompts: PromptQuerySet, filters: Mapping[str, Any]) -> PromptQuerySet:
    """Return the prompts that match every filter given."""
    if text := filters.get("q"):
        number = _number(text)
        found = Q(external_id=text) | _in_prompt(text) | _in_json(text, "metadata")
        prompts = prompts.filter(found if number is None else Q(pk=number))
    match filters.get("state"):
        case "in_use":
            prompts = prompts.in_use()
        case "unused":
            prompts = prompts.in_use().uncompared()
        case "withdrawn":
            prompts = prompts.filter(withdrawn_at__isnull=False)
    if batch := filters.get("batch"):
        prompts = prompts.filter(batch=batch)
    if metadata := filters.get("metadata"):
        prompts = prompts.filter(has_metadata(metadata, "metadata"))
    if held_out := filters.get("held_out"):
        prompts = prompts.filter(held_out=held_out == "yes")
    if concern := filters.get("has"):
        prompts = prompts.filter(CONCERNS[concern].find())
    return prompts


def narrow(comparisons: ComparisonQuerySet, filters: Mapping[str, Any]) -> ComparisonQuerySet:
    """Return the comparisons that match every filter given."""
    if text := filters.get("q"):
        comparisons = comparisons.filter(
            containing(text)
            | Q(external_id=text)
            | _in_json(text, "metadata")
            | _in_json(text, "prompt__metadata")
        )
    match filters.get("state"):
        case "waiting":
            comparisons = comparisons.filter(judged=0, withdrawn_at=None).exclude(is_set_aside())
        case "partly":
            partly = comparisons.filter(judged__gt=0, judged__lt=F("needed"), withdrawn_at=None)
            comparisons = partly.exclude(is_set_aside())
        case "finished":
            comparisons = comparisons.finished().filter(withdrawn_at=None)
        case "set_aside":
            comparisons = comparisons.set_aside()
        case "withdrawn":
            comparisons = comparisons.filter(withdrawn_at__isnull=False)
    comparisons = comparisons.filter(
        **{name: filters[name] for name in ("kind", "batch", "prompt") if filters.get(name)}
    )
    if metadata := filters.get("metadata"):
        paths = ("metadata", "prompt__metadata")
        comparisons = comparisons.filter(has_metadata(metadata, paths[0]) | has_metadata(metadata, paths[1]))
    if policy := filters.get("policy"):
        comparisons = comparisons.filter(Q(first__policy=policy) | Q(second__policy=policy))
    if held_out := filters.get("held_out"):
        comparisons = comparisons.filter(prompt__held_out=held_out == "yes")
    verdict = _verdict(filters)
    if verdict:
        comparisons = comparisons.filter(
            Exists(Judgment.objects.current().filter(verdict, comparison=OuterRef("pk")))
        )
    if filters.get("disagreement"):
        comparisons = comparisons.filter(
            Exists(find_disputed().filter(comparison=OuterRef("pk"))), judged__gt=1
        )
    if filters.get("flagged"):
        comparisons = comparisons.filter(Exists(Flag.objects.open().filter(comparison=OuterRef("pk"))))
    return comparisons


def _verdict(filters: Mapping[str, Any]) -> Q:
    """Return the condition on one judgment of a comparison. Empty if the filters say nothing of it."""
    found = Q(**{name: filters[name] for name in ("annotator", "verdict") if filters.get(name)})
    match filters.get("judged_by"):
        case "people":
            found &= Q(import_batch="")
        case "imported":
            found &= ~Q(import_batch="")
    return found


def containing(text: str, path: str = "") -> Q:
    """Return the condition that a comparison has this text, this number ("#812"), or this id of its prompt.

    `path` leads to the comparison, such as "comparison__".
    """
    if (number := _number(text)) is not None:
        return Q(**{f"{path}pk": number})
    found = Q(**{f"{path}prompt__external_id": text})
    found |= Q(**{f"{path}first__text__icontains": text}) | Q(**{f"{path}second__text__icontains": text})
    return found | _in_prompt(text, f"{path}prompt__")


def _number(text: str) -> int | None:
    """Return the key that a search such as “#812” names, or None."""
    return int(text[1:]) if text.startswith("#") and text[1:].isdecimal() else None


def _in_prompt(text: str, path: str = "") -> Q:
    """Return the condition that a prompt holds this text. `path` leads to it."""
    return _in_json(text, f"{path}content")


def _in_json(text: str, column: str) -> Q:
    """Return the condition that a JSON column holds this text."""
    # SQLite keeps JSON escaped, PostgreSQL does not.
    spellings = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    found = Q()
    for escaped in spellings:
        found |= Q(IContains(Cast(column, TextField()), escaped))
    return found


def has_metadata(asked: str, column: str) -> Q:
    """Return the condition that a column of metadata has a key, or that the key has a value: “lang” or “lang=de”."""
    key, equals, value = (part.strip() for part in asked.partition("="))
    if not equals:
        return Q(**{f"{column}__has_key": key})
    found = _equals(column, key, value)
    if (parsed := _scalar(value)) is not None:  # 3 and true may be written without quotes
        found |= _equals(column, key, parsed)
    return found


def _equals(column: str, key: str, value: object) -> Q:
    return Q(KeyTransformExact(KeyTransform(key, column), Value(value, JSONField())))


def _scalar(text: str) -> float | bool | None:
    """Return the number or boolean that a text spells as JSON, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, bool | int | float) and math.isfinite(value) else None


def _with_details(keys: list[int]) -> list[Comparison]:
    """Return these comparisons in this order, with what a line of the list shows, in three queries."""
    shown = Judgment.objects.current().select_related("annotator")
    comparisons = (
        Comparison.objects.filter(pk__in=keys)
        .select_related("prompt", "first__policy", "second__policy")
        .defer(*(f"{side}__{name}" for side in ("first", "second") for name in _LONG))
        .prefetch_related(
            Prefetch("judgments", shown.order_by("created_at", "pk"), "current"),
            Prefetch("flags", Flag.objects.open(), "open_flags"),
        )
        .order_by("-pk")
    )
    return list(comparisons)
