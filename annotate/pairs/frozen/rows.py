"""Pairs and ratings as the rows of a snapshot: stored, and read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.models import Q, QuerySet

from annotate.models import Snapshot, SnapshotPair, SnapshotRating
from annotate.pairs.aggregation import Pair, Rating
from annotate.pairs.texts import AT_A_TIME
from primitives.chunks import chunks

# The columns, in the order of the fields of `Pair` and `Rating`. The last field, the judgments, is a table of its own.
_OF_PAIR = ("comparison_id", "chosen_id", "rejected_id", "label", "margin", "weight", "held_out")
_OF_RATING = ("comparison_id", "completion_id", "desirable", "weight", "held_out")


def store_pairs(snapshot: Snapshot, pairs: Iterable[Pair]) -> None:
    """Freeze pairs in a new snapshot."""
    _store(snapshot, SnapshotPair, _OF_PAIR, pairs)


def store_ratings(snapshot: Snapshot, ratings: Iterable[Rating]) -> None:
    """Freeze ratings in a new snapshot."""
    _store(snapshot, SnapshotRating, _OF_RATING, ratings)


def stored_pairs(snapshot: Snapshot, only: Q | None = None) -> Iterator[Pair]:
    """Yield the snapshot's pairs in the order of their comparisons. `only` narrows them."""
    rows = SnapshotPair.objects.filter(only or Q(), snapshot=snapshot).order_by("comparison_id")
    return map(Pair._make, _read(rows, _OF_PAIR))


def stored_ratings(snapshot: Snapshot, only: Q | None = None) -> Iterator[Rating]:
    """Yield the snapshot's ratings in the order of their comparisons and completions. `only` narrows them."""
    rows = SnapshotRating.objects.filter(only or Q(), snapshot=snapshot)
    return map(Rating._make, _read(rows.order_by("comparison_id", "completion_id"), _OF_RATING))


def _store(snapshot: Snapshot, model: Any, columns: Sequence[str], rows: Iterable[Pair | Rating]) -> None:
    links, key = model.judgments.through, f"{model._meta.model_name}_id"
    for some in chunks(rows, AT_A_TIME):
        stored = model.objects.bulk_create(
            model(snapshot=snapshot, **dict(zip(columns, row[:-1], strict=True))) for row in some
        )
        links.objects.bulk_create(
            links(**{key: one.pk}, judgment_id=judgment)
            for one, row in zip(stored, some, strict=True)
            for judgment in row.judgments
        )


def _read(rows: QuerySet[Any], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of these rows, and behind them the ids of their judgments."""
    model: Any = rows.model
    links, name = model.judgments.through.objects.order_by("judgment_id"), model._meta.model_name
    for some in chunks(rows.values_list("pk", *columns).iterator(chunk_size=AT_A_TIME), AT_A_TIME):
        judgments: dict[int, list[int]] = {key: [] for key, *_row in some}
        held = links.filter(**{f"{name}__in": judgments}).values_list(f"{name}_id", "judgment_id")
        for key, judgment in held:
            judgments[key].append(judgment)
        for key, *row in some:
            yield (*row, tuple(judgments[key]))
