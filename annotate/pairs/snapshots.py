"""Preference pairs: as they stand now (`aggregate`), frozen in snapshots, and as the lines that training reads."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from annotate.models import Comparison, Completion, Project, Snapshot, SnapshotPair, User
from annotate.pairs.aggregation import (
    EXCLUSIONS,
    Aggregation,
    Pair,
    PairSettings,
    PairSettingsError,
    aggregate,
)
from annotate.projects import trail
from annotate.text.chats import Content

__all__ = [
    "EXCLUSIONS",
    "Aggregation",
    "Pair",
    "PairSettings",
    "PairSettingsError",
    "aggregate",
    "as_prompted",
    "canonical",
    "shared_prompt_ids",
    "stored_pairs",
    "take_snapshot",
    "training_rows",
]

AT_A_TIME = 500  # pairs whose texts are in memory together


def take_snapshot(
    project: Project, by: User | None, settings: PairSettings | None = None, *, at: datetime | None = None
) -> Snapshot:
    """Freeze the pairs as they stand now, or stood at a moment. The same pairs again give the snapshot that exists."""
    settings = settings or PairSettings()
    found = aggregate(project, settings, at=at)
    digest = _digest(project, found.pairs)
    with transaction.atomic():
        snapshot, made = Snapshot.objects.get_or_create(
            project=project,
            digest=digest,
            defaults={"settings": asdict(settings), "counts": found.counts, "created_by": by},
        )
        if made:
            _store(snapshot, found.pairs)
            trail.record(trail.Verb.SNAPSHOT, by, project=project, target=digest[:12])
    return snapshot


def _store(snapshot: Snapshot, pairs: Iterable[Pair]) -> None:
    of_pair = SnapshotPair.judgments.through
    for some in _batches(pairs):
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


def _digest(project: Project, pairs: Iterable[Pair]) -> str:
    """SHA-256 of the pairs in canonical JSON Lines, in the order of their comparisons."""
    sha = hashlib.sha256()
    for some in _batches(pairs):
        texts = {
            row["pk"]: row
            for row in Comparison.objects.filter(pk__in=[pair.comparison for pair in some]).values(
                "pk", "prompt__content", "prompt__tools", "first_id",
                "first__text", "first__messages", "second__text", "second__messages",
            )
        }  # fmt: skip
        for pair in some:
            row = texts[pair.comparison]
            both = (
                row["first__messages"] or row["first__text"],
                row["second__messages"] or row["second__text"],
            )
            chosen, rejected = both if pair.chosen == row["first_id"] else both[::-1]
            sha.update(
                canonical(
                    comparison=pair.comparison,
                    prompt=row["prompt__content"],
                    tools=row["prompt__tools"],
                    chosen=chosen,
                    rejected=rejected,
                    label=pair.label,
                    margin=pair.margin,
                    weight=pair.weight,
                    held_out=pair.held_out,
                    judgments=list(pair.judgments),
                )
            )
    return sha.hexdigest()


def canonical(*, tools: Any = None, **fields: Any) -> bytes:
    """One line of the canonical form: the keys sorted, no spaces, UTF-8, ended by a newline.

    A snapshot's digest is the SHA-256 of these lines with the keys comparison, prompt, chosen, rejected, label,
    margin, weight, held_out and judgments, and tools where the prompt has some. Chosen and rejected are the texts of
    the completions, or their messages.
    """
    fields |= {"tools": tools} if tools else {}
    line = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return line.encode("utf-8", "surrogatepass") + b"\n"


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while some := list(islice(rest, AT_A_TIME)):
        yield some


def training_rows(
    snapshot: Snapshot, held_out: bool = False, margin_scale: float = 1.0, base_model: str | None = None
) -> Iterator[dict[str, Any]]:
    """Return the lines of a run directory's `pairs.jsonl` (or of its held-out pairs), streamed.

    Their margin is the pair's strength times `margin_scale`. With the token ids that were sampled, and why each
    completion ended, where they are known; and the prompt's ids, where both completions were sampled after the same.
    Ids of another model than `base_model` mean other words to it: of those completions there is the text alone.
    """
    for pair in stored_pairs(snapshot).filter(held_out=held_out).iterator(chunk_size=AT_A_TIME):
        row: dict[str, Any] = {
            "id": str(pair.comparison_id - snapshot.comparison_shift),  # as it was frozen
            "prompt": pair.comparison.prompt.content,
            "chosen": as_prompted(pair.comparison.prompt.content, pair.chosen.content),
            "rejected": as_prompted(pair.comparison.prompt.content, pair.rejected.content),
            "label": pair.label,
            "margin": pair.margin * margin_scale,
            "weight": pair.weight,
        }
        if tools := pair.comparison.prompt.tools:
            row["tools"] = tools
        for name, completion in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            if completion.token_ids and base_model in (None, completion.policy.base_model):
                row[f"{name}_token_ids"] = completion.token_ids
            if completion.finish_reason != completion.FinishReason.UNKNOWN:
                row[f"{name}_finish_reason"] = completion.finish_reason
        given = shared_prompt_ids(pair.chosen, pair.rejected)
        if given and "chosen_token_ids" in row and "rejected_token_ids" in row:
            row["prompt_token_ids"] = given
        yield row


def shared_prompt_ids(chosen: Completion, rejected: Completion) -> list[int] | None:
    """Return the prompt's ids that both completions were sampled after, or None if they differ or are not known."""
    given: list[int] | None = chosen.prompt_token_ids
    return given if given and given == rejected.prompt_token_ids else None


def as_prompted(prompt: Content, completion: Content) -> Content:
    """Return a completion in the form of its prompt, as TRL has it: text to text, an assistant's message to a chat."""
    if isinstance(prompt, str) or not isinstance(completion, str):
        return completion
    return [{"role": "assistant", "content": completion}]


def stored_pairs(snapshot: Snapshot) -> QuerySet[SnapshotPair]:
    """Return the snapshot's pairs with their texts, in the order of their comparisons."""
    return (
        SnapshotPair.objects.filter(snapshot=snapshot)
        .select_related("comparison__prompt", "chosen__policy", "rejected__policy")
        .order_by("comparison_id")
    )
