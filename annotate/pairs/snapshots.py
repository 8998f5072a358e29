"""Preference pairs frozen in snapshots, their canonical lines, and the lines that training reads."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from django.db import transaction
from django.db.models import Q

from annotate.models import Project, Snapshot, SnapshotPair, User
from annotate.pairs.aggregation import Aggregation, Pair, aggregate
from annotate.pairs.ratings import canonical_fields, store_ratings, stored_ratings, training_ratings
from annotate.pairs.settings import PairSettings
from annotate.pairs.texts import (
    AT_A_TIME,
    Frozen,
    Texts,
    as_prompted,
    as_sampled,
    batches,
    parse,
    shared_prompt_ids,
    with_texts,
)
from annotate.projects import trail

_CONTENT = ("prompt", "chosen", "rejected", "completion")
_STORED = ("comparison_id", "chosen_id", "rejected_id", "label", "margin", "weight", "held_out")


def take_snapshot(
    project: Project, by: User | None, settings: PairSettings | None = None, *, at: datetime | None = None
) -> Snapshot:
    """Freeze the pairs as they stand now, or stood at a moment. The same pairs again give the snapshot that exists."""
    settings = settings or PairSettings()
    found = aggregate(project, settings, at=at)
    digest = _digest(found)
    with transaction.atomic():
        snapshot, made = Snapshot.objects.get_or_create(
            project=project,
            digest=digest,
            defaults={"settings": asdict(settings), "counts": found.counts, "created_by": by},
        )
        if made:
            _store(snapshot, found.pairs)
            store_ratings(snapshot, found.ratings)
            trail.record(trail.Verb.SNAPSHOT, by, project=project, target=digest[:12])
    return snapshot


def _digest(found: Aggregation) -> str:
    """SHA-256 of the pairs, then the ratings, in canonical JSON Lines, in the order of their comparisons."""
    sha = hashlib.sha256()
    for pair, texts in with_texts(found.pairs):
        sha.update(_exact_line(pair, texts))
    for rating, texts in with_texts(found.ratings):
        sha.update(canonical(**canonical_fields(rating, texts)))
    return sha.hexdigest()


def _store(snapshot: Snapshot, pairs: Iterable[Pair]) -> None:
    of_pair = SnapshotPair.judgments.through
    for some in batches(pairs):
        rows = SnapshotPair.objects.bulk_create(
            SnapshotPair(
                snapshot=snapshot,
                comparison_id=pair.comparison,
                chosen_id=pair.chosen,
                rejected_id=pair.rejected,
                label=pair.label,
                margin=pair.margin,
                weight=pair.weight,
                held_out=pair.held_out,
            )
            for pair in some
        )
        of_pair.objects.bulk_create(
            of_pair(snapshotpair_id=row.pk, judgment_id=judgment)
            for row, pair in zip(rows, some, strict=True)
            for judgment in pair.judgments
        )


# --- What was frozen ---------------------------------------------------------------------------------------------


def stored_pairs(snapshot: Snapshot, only: Q | None = None) -> Iterator[Pair]:
    """Yield the snapshot's pairs in the order of their comparisons. `only` narrows them."""
    rows = SnapshotPair.objects.filter(only or Q(), snapshot=snapshot).order_by("comparison_id")
    for some in batches(rows.values_list("pk", *_STORED).iterator(chunk_size=AT_A_TIME)):
        judgments = _judgments_of([key for key, *_pair in some])
        for key, *pair in some:
            yield Pair._make((*pair, tuple(judgments[key])))


def _judgments_of(pairs: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {pair: [] for pair in pairs}
    links = SnapshotPair.judgments.through.objects.filter(snapshotpair__in=pairs).order_by("judgment_id")
    for pair, judgment in links.values_list("snapshotpair_id", "judgment_id"):
        found[pair].append(judgment)
    return found


def exact_lines(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield a snapshot's pairs and ratings in the canonical form: the SHA-256 of these lines is its digest.

    Ids are those of the database that it was frozen in. Of a snapshot that has forgotten pairs, the others are left.
    """
    for pair, texts in with_texts(stored_pairs(snapshot)):
        yield _exact_line(_as_frozen(snapshot, pair), texts)
    for rating, texts in with_texts(stored_ratings(snapshot)):
        yield canonical(**canonical_fields(_as_frozen(snapshot, rating), texts))


def _as_frozen(snapshot: Snapshot, row: Frozen) -> Frozen:
    """Return a pair or a rating with the ids of the database that it was frozen in."""
    return row._replace(
        comparison=row.comparison - snapshot.comparison_shift,
        judgments=tuple(judgment - snapshot.judgment_shift for judgment in row.judgments),
    )


def _exact_line(pair: Pair, texts: Texts) -> bytes:
    chosen, rejected = texts.completions(pair.chosen)
    return canonical(
        comparison=pair.comparison,
        prompt=parse(texts.prompt),
        tools=parse(texts.tools),
        chosen=chosen.content,
        rejected=rejected.content,
        label=pair.label,
        margin=pair.margin,
        weight=pair.weight,
        held_out=pair.held_out,
        judgments=pair.judgments,
    )


def canonical(*, tools: Any = None, **fields: Any) -> bytes:
    """One line of the canonical form: the keys sorted, no spaces, UTF-8, ended by a newline.

    A snapshot's digest is the SHA-256 of these lines with the keys comparison, prompt, chosen, rejected, label,
    margin, weight, held_out and judgments, and tools where the prompt has some. Chosen and rejected are the texts of
    the completions, or their messages. The line of a rating has completion and desirable in place of chosen, rejected,
    label and margin. Those of pairs come first.
    """
    fields |= {"tools": tools} if tools else {}
    if (
        not tools
        and all(isinstance(fields[name], str) for name in _CONTENT if name in fields)
        and not 0 < fields.get("margin", 0) < 1e-4
    ):
        # Both libraries write these alike. They differ in some numbers, which messages and tools may hold.
        with suppress(TypeError):  # half a surrogate pair
            return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS) + b"\n"
    line = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return line.encode("utf-8", "surrogatepass") + b"\n"


# --- The lines that training reads -------------------------------------------------------------------------------


def training_rows(
    snapshot: Snapshot, held_out: bool = False, margin_scale: float = 1.0, base_model: str | None = None
) -> Iterator[dict[str, Any]]:
    """Return the lines of a run directory's `pairs.jsonl` (or of its held-out pairs), streamed.

    Their margin is the pair's strength times `margin_scale`. With the token ids that were sampled, and why each
    completion ended, where they are known; and the prompt's ids, where both completions were sampled after the same.
    Ids of another model than `base_model` mean other words to it: of those completions there is the text alone.
    Ratings come after the pairs.
    """
    for pair, texts in with_texts(stored_pairs(snapshot, Q(held_out=held_out))):
        prompt = parse(texts.prompt)
        chosen, rejected = texts.completions(pair.chosen)
        row: dict[str, Any] = {
            "id": str(pair.comparison - snapshot.comparison_shift),  # as it was frozen
            "prompt": prompt,
            "chosen": as_prompted(prompt, chosen.content),
            "rejected": as_prompted(prompt, rejected.content),
            "label": pair.label,
            "margin": pair.margin * margin_scale,
            "weight": pair.weight,
        }
        if tools := parse(texts.tools):
            row["tools"] = tools
        row |= as_sampled("chosen", chosen, base_model) | as_sampled("rejected", rejected, base_model)
        given = shared_prompt_ids(chosen, rejected)
        if given and "chosen_token_ids" in row and "rejected_token_ids" in row:
            row["prompt_token_ids"] = given
        yield row
    yield from training_ratings(snapshot, held_out, base_model)
