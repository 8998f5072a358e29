"""Figures of what was said of each prompt, and the prompts that stand out by one of them.

Imported judgments count, and are told apart. Replaced judgments and repeats do not count.
"""

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import Count, Exists, F, FloatField, Max, Min, OuterRef, Q, QuerySet, Sum, TextField
from django.db.models.expressions import Combinable, Value
from django.db.models.functions import Cast, Coalesce, Concat
from django.utils.translation import gettext as _
from psycopg.errors import QueryCanceled

from annotate.errors import RefusalError
from annotate.models import Comparison, Completion, Flag, Judgment, Prompt
from annotate.models.judgments import JudgmentQuerySet
from annotate.models.texts import PromptQuerySet
from primitives.statistics import Share

Verdict = Judgment.Verdict
LEAST = 3  # judgments of a prompt that is ranked, unless another number is asked for
MOST_RANKED = 100
FIRST_WINDOW, LARGEST_WINDOW = 1_000, 64_000  # keys
LONGEST_STATEMENT = 8.0  # seconds, of the statement for one window
# A limit of 0 is none.
STRICTER_LIMIT = """
SELECT set_config(name, LEAST(NULLIF(setting::int, 0), %s)::text, true)
FROM pg_settings WHERE name = 'statement_timeout'
"""


@dataclass(frozen=True)
class PromptFigures:
    """Counts of one prompt.

    `not_mine` are the skips because of the language or the field. `met` are the comparisons that two or more annotators
    have an opinion on, and `disputed` those on which they differ. `cut` are the completions that ended at the limit of
    tokens.
    """

    judgments: int = 0
    imported: int = 0
    ties: int = 0
    both_bad: int = 0
    skips: int = 0
    not_mine: int = 0
    late: int = 0
    too_fast: int = 0
    met: int = 0
    disputed: int = 0
    flags: int = 0
    completions: int = 0
    cut: int = 0


def add_figures(prompts: Sequence[Prompt]) -> None:
    """Give each of these prompts its `figures`."""
    found = measure_prompts([prompt.pk for prompt in prompts])
    for prompt in prompts:
        prompt.figures = found[prompt.pk]  # type: ignore[attr-defined]


def measure_prompts(keys: Sequence[int]) -> dict[int, PromptFigures]:
    """Return the figures of these prompts, in four queries."""
    found: dict[int, dict[str, int]] = {key: {} for key in keys}
    for rows, path, counts in (
        (
            _judgments(),
            "comparison__prompt",
            {
                "judgments": Q(),
                "imported": ~Q(import_batch=""),
                "ties": Q(verdict=Verdict.TIE),
                "both_bad": Q(verdict=Verdict.BOTH_BAD),
                "skips": Q(verdict=Verdict.SKIP),
                "not_mine": Q(skip_reason=Judgment.SkipReason.NOT_MINE),
                "late": Q(late=True),
                "too_fast": Q(too_fast=True),
            },
        ),
        (_met(), "prompt", {"met": Q(), "disputed": _is_disputed()}),
        (Flag.objects.open(), "comparison__prompt", {"flags": Q()}),
        (Completion.objects.all(), "prompt", {"completions": Q(), "cut": _IS_CUT}),
    ):
        # A count may have the name of a column.
        named = {f"count_{name}": Count("pk", filter=condition or None) for name, condition in counts.items()}
        for row in rows.filter(**{f"{path}__in": keys}).order_by().values(path).annotate(**named):
            found[row[path]] |= {name: row[f"count_{name}"] for name in counts}
    return {key: PromptFigures(**counts) for key, counts in found.items()}


def _judgments() -> JudgmentQuerySet:
    return Judgment.objects.current().exclude(comparison__kind=Comparison.Kind.REPEAT)


def _met() -> QuerySet[Comparison]:
    return Comparison.objects.filter(judged__gt=1)


def _is_disputed() -> Q:
    return Q(Exists(find_disputed().filter(comparison=OuterRef("pk"))))


_IS_CUT = Q(finish_reason=Completion.FinishReason.LENGTH)


def find_disputed() -> QuerySet[Judgment, Any]:
    """Return the comparisons on which two annotators' verdicts differ. Skips and strengths do not count."""
    preferred = Coalesce(Cast("preferred_id", TextField()), Value("", TextField()))
    outcome = Concat(Cast("verdict", TextField()), preferred)
    return (
        Judgment.objects.current()
        .opinions()
        .order_by()
        .values("comparison")
        .annotate(one=Min(outcome), other=Max(outcome))
        .exclude(one=F("other"))
    )


def name_figures(figures: PromptFigures) -> list[tuple[str, Share, str]]:
    """Return each figure's name for people, its share of the whole, and a note."""
    judgments, imported = figures.judgments, ""
    if figures.imported:
        imported = _("%(count)s of them imported") % {"count": f"{figures.imported:,}"}
    not_mine = ""
    if figures.not_mine:
        not_mine = _("%(count)s not their language or field") % {"count": f"{figures.not_mine:,}"}
    return [
        (_("Judgments"), Share(judgments), imported),
        (_("Skipped"), Share(figures.skips, judgments), not_mine),
        (_("Both bad"), Share(figures.both_bad, judgments), ""),
        (_("Ties"), Share(figures.ties, judgments), ""),
        (
            _("Disagreement"),
            Share(figures.disputed, figures.met),
            _("comparisons that two or more annotators judged") if figures.met else "",
        ),
        (_("Open flags"), Share(figures.flags), ""),
        (_("Late"), Share(figures.late, judgments), ""),
        (_("Too fast"), Share(figures.too_fast, judgments), ""),
        (
            _("Cut at the length limit"),
            Share(figures.cut, figures.completions),
            _("completions") if figures.completions else "",
        ),
    ]


# --- Prompts that stand out ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Concern:
    """A reason to look at a prompt: the share of `rows` that meet `condition`.

    `path` leads from a row to its prompt. `judgments` counts those that stand behind the share, None where a single row
    is enough.
    """

    rows: Callable[[], QuerySet[Any, Any]]
    path: str
    condition: Callable[[], Q]
    judgments: Combinable | None = None

    def find(self) -> Exists:
        """Return the condition that a prompt has a row of this kind."""
        return Exists(self.rows().filter(self.condition(), **{self.path: OuterRef("pk")}))

    def rank(self, prompts: PromptQuerySet, least: int) -> list[tuple[float, int, int]]:
        """Return (share, rows that meet the condition, key) of the prompts with the largest shares."""
        rows = self.rows().filter(**{f"{self.path}__in": prompts.order_by().values("pk")})
        counted = rows.order_by().values(self.path).annotate(count=Count("pk", filter=self.condition()))
        if self.judgments is not None:
            counted = counted.annotate(behind=self.judgments).filter(behind__gte=least)
        share = Cast(F("count"), FloatField()) / Count("pk")
        largest = (
            counted.filter(count__gt=0).annotate(share=share).order_by("-share", "-count", f"-{self.path}")
        )
        return list(largest.values_list("share", "count", self.path)[:MOST_RANKED])


def _of_verdict(verdict: str) -> Concern:
    return Concern(_judgments, "comparison__prompt", lambda: Q(verdict=verdict), Count("pk"))


CONCERNS = {
    "skips": _of_verdict(Verdict.SKIP),
    "both_bad": _of_verdict(Verdict.BOTH_BAD),
    "ties": _of_verdict(Verdict.TIE),
    "disagreement": Concern(_met, "prompt", _is_disputed, Sum("judged")),
    "flags": Concern(Flag.objects.open, "comparison__prompt", lambda: Q(resolved_at=None)),
    "cut": Concern(Completion.objects.all, "prompt", lambda: _IS_CUT),
}


def rank_prompts(
    everything: PromptQuerySet,
    matching: PromptQuerySet,
    concern: str,
    *,
    least: int = LEAST,
    before: int | None = None,
    seconds: float = 4.0,
) -> tuple[list[int], int | None]:
    """Return the keys of the matching prompts that a concern is most true of, the worst first, up to MOST_RANKED.

    Prompts are looked through from the newest, or from the one before the key `before`. If the time is up, the second
    value is the key before which the ranking can go on; else it is None. The time is looked at between windows of
    keys. PostgreSQL ends a window that takes LONGEST_STATEMENT, and a ranking that has no other one is refused.
    """
    keys = everything.values_list("pk", flat=True)
    newest, oldest = keys.order_by("-pk").first() or 0, keys.order_by("pk").first() or 0
    start = cursor = min(before, newest + 1) if before else newest + 1
    found: list[tuple[float, int, int]] = []
    window, until = FIRST_WINDOW, time.monotonic() + seconds
    while cursor > oldest:
        low, started = max(cursor - window, oldest), time.monotonic()
        try:
            with _limit_statement():
                some = CONCERNS[concern].rank(matching.filter(pk__lt=cursor, pk__gte=low), least)
        except TimeoutError as error:
            if cursor == start:
                raise RefusalError(_("This ranking takes too long. Narrow it with a filter.")) from error
            break
        found = heapq.nlargest(MOST_RANKED, [*found, *some])
        cursor = low
        if time.monotonic() > until:
            break
        window = size_window(window, time.monotonic() - started, seconds)
    return [key for _share, _count, key in found], cursor if cursor > oldest else None


def size_window(window: int, took: float, seconds: float) -> int:
    """Return how many keys to look through after a window that took so long, of `seconds` for all."""
    if took < seconds / 8:
        return min(4 * window, LARGEST_WINDOW)
    return max(window // 4, 1) if took > seconds / 4 else window


@contextmanager
def _limit_statement() -> Iterator[None]:
    """Let PostgreSQL end a statement after LONGEST_STATEMENT, as a TimeoutError. SQLite cannot.

    A role with a stricter limit keeps it.
    """
    if connection.vendor != "postgresql":
        yield
        return
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(STRICTER_LIMIT, [round(1_000 * LONGEST_STATEMENT)])
            yield
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TimeoutError from error
        raise
