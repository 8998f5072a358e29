"""Completions rated by themselves, frozen in snapshots: stored, read, and as lines."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Q

from annotate.models import Snapshot, SnapshotRating
from annotate.pairs.aggregation import Rating
from annotate.pairs.texts import AT_A_TIME, Texts, as_prompted, as_sampled, batches, parse, with_texts

_STORED = ("comparison_id", "completion_id", "desirable", "weight", "held_out")


def store_ratings(snapshot: Snapshot, ratings: Iterable[Rating]) -> None:
    """Freeze ratings in a new snapshot."""
    of_rating = SnapshotRating.judgments.through
    for some in batches(ratings):
        rows = SnapshotRating.objects.bulk_create(
            SnapshotRating(
                snapshot=snapshot,
                comparison_id=rating.comparison,
                completion_id=rating.completion,
                desirable=rating.desirable,
                weight=rating.weight,
                held_out=rating.held_out,
            )
            for rating in some
        )
        of_rating.objects.bulk_create(
            of_rating(snapshotrating_id=row.pk, judgment_id=judgment)
            for row, rating in zip(rows, some, strict=True)
            for judgment in rating.judgments
        )


def stored_ratings(snapshot: Snapshot, only: Q | None = None) -> Iterator[Rating]:
    """Yield the snapshot's ratings in the order of their comparisons and completions. `only` narrows them."""
    rows = SnapshotRating.objects.filter(only or Q(), snapshot=snapshot)
    ordered = rows.order_by("comparison_id", "completion_id").values_list("pk", *_STORED)
    for some in batches(ordered.iterator(chunk_size=AT_A_TIME)):
        judgments: dict[int, list[int]] = {key: [] for key, *_rating in some}
        links = SnapshotRating.judgments.through.objects.filter(snapshotrating__in=judgments)
        for key, judgment in links.order_by("judgment_id").values_list("snapshotrating_id", "judgment_id"):
            judgments[key].append(judgment)
        for key, *rating in some:
            yield Rating._make((*rating, tuple(judgments[key])))


def canonical_fields(rating: Rating, texts: Texts) -> dict[str, Any]:
    """Return what the canonical line of a rating holds."""
    return {
        "comparison": rating.comparison,
        "prompt": parse(texts.prompt),
        "tools": parse(texts.tools),
        "completion": texts.completion(rating.completion).content,
        "desirable": rating.desirable,
        "weight": rating.weight,
        "held_out": rating.held_out,
        "judgments": rating.judgments,
    }


def training_ratings(
    snapshot: Snapshot, held_out: bool = False, base_model: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run directory that are ratings, as `training_rows` does with pairs."""
    for rating, texts in with_texts(stored_ratings(snapshot, Q(held_out=held_out))):
        prompt, completion = parse(texts.prompt), texts.completion(rating.completion)
        side = "first" if rating.completion == texts.first.pk else "second"
        row: dict[str, Any] = {
            "id": f"{rating.comparison - snapshot.comparison_shift}/{side}",  # as it was frozen
            "prompt": prompt,
            "completion": as_prompted(prompt, completion.content),
            "label": rating.desirable,
            "weight": rating.weight,
        }
        if tools := parse(texts.tools):
            row["tools"] = tools
        row |= as_sampled("completion", completion, base_model)
        given = parse(completion.prompt_token_ids) or None
        if given and "completion_token_ids" in row:
            row["prompt_token_ids"] = given
        yield row
