"""Preference pairs frozen in snapshots, their canonical lines, and the lines that training reads."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from typing import Any, TypeVar

import orjson
from django.db import connection, transaction
from django.db.models import Q

from annotate.models import Moment, Project, Snapshot, User
from annotate.models.conflicts import again_on_race
from annotate.pairs.aggregation import Aggregation, Pair, Rating, aggregate
from annotate.pairs.frozen.rows import store_pairs, store_ratings, stored_pairs, stored_ratings
from annotate.pairs.settings import PairSettings
from annotate.pairs.texts import (
    Frozen,
    Texts,
    as_prompted,
    as_sampled,
    parse,
    shared_prompt_ids,
    with_texts,
)
from annotate.projects import trail

Row = TypeVar("Row", Pair, Rating)
_CONTENT = ("prompt", "chosen", "rejected", "completion")


class Watch:
    """The watch over a snapshot that is being taken, which may tell how far it is. What it raises ends the taking."""

    def aggregating(self) -> None:
        """Note that some more comparisons were looked at. How many there are is not known yet."""

    def aggregated(self, rows: int) -> None:
        """Note that there are so many pairs and ratings, each of which passes twice."""

    def passed(self) -> None:
        """Note that a pair or a rating was hashed or stored."""

    def taken(self, snapshot: Snapshot) -> None:
        """Note that it is there, in the transaction that stored it."""


@again_on_race
def take_snapshot(
    project: Project,
    by: User | None,
    settings: PairSettings | None = None,
    *,
    at: Moment | None = None,
    watch: Watch | None = None,
) -> Snapshot:
    """Freeze the pairs as they stand now, or stood at a moment. The same pairs again give the snapshot that exists.

    Annotators who judge meanwhile lock judgments, and what is forgotten meanwhile is none of its pairs: it looks again.
    If the account of `by` is deleted meanwhile, it names no one.
    """
    settings, watch = settings or PairSettings(), watch or Watch()
    found = aggregate(project, settings, at=at, look=watch.aggregating)
    watch.aggregated(len(found.pairs) + len(found.ratings))
    digest = _digest(found, watch)
    with transaction.atomic():
        by = User.objects.filter(pk=by.pk).first() if by else None
        snapshot, made = Snapshot.objects.get_or_create(
            project=project,
            digest=digest,
            defaults={"settings": asdict(settings), "counts": found.counts, "created_by": by},
        )
        if made:
            store_pairs(snapshot, _watched(found.pairs, watch))
            store_ratings(snapshot, _watched(found.ratings, watch))
            trail.record(trail.Verb.SNAPSHOT, by, project=project, target=digest[:12])
            _check_keys()
        watch.taken(snapshot)
    return snapshot


def _check_keys() -> None:
    """Let PostgreSQL check the foreign keys of what was stored now, before `Watch.taken` locks a row, and not after."""
    if connection.vendor == "postgresql":
        connection.check_constraints()


def _watched(rows: Iterable[Row], watch: Watch) -> Iterator[Row]:
    for row in rows:
        watch.passed()
        yield row


def _digest(found: Aggregation, watch: Watch) -> str:
    """Return the SHA-256 of the pairs, then the ratings, in canonical JSON Lines, in the order of their comparisons."""
    sha = hashlib.sha256()
    for line in chain(_canonical_lines(found.pairs), _canonical_lines(found.ratings)):
        watch.passed()
        sha.update(line)
    return sha.hexdigest()


def exact_lines(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield a snapshot's pairs and ratings in the canonical form: the SHA-256 of these lines is its digest.

    Ids are those of the database that it was frozen in. Of a snapshot that has forgotten pairs, the others are left.
    """
    yield from _canonical_lines(stored_pairs(snapshot), snapshot)
    yield from _canonical_lines(stored_ratings(snapshot), snapshot)


def _canonical_lines(rows: Iterable[Frozen], snapshot: Snapshot | None = None) -> Iterator[bytes]:
    """Yield the lines of pairs or ratings, with the ids of the database that `snapshot` was frozen in."""
    for row, texts in with_texts(rows):
        fields = _pair_fields(row, texts) if isinstance(row, Pair) else _rating_fields(row, texts)
        comparison, judgments = row.comparison, row.judgments
        if snapshot is not None:
            comparison -= snapshot.comparison_shift
            judgments = tuple(judgment - snapshot.judgment_shift for judgment in judgments)
        yield canonical(
            **fields,
            comparison=comparison,
            judgments=judgments,
            prompt=parse(texts.prompt),
            tools=parse(texts.tools),
            weight=row.weight,
            held_out=row.held_out,
        )


def _pair_fields(pair: Pair, texts: Texts) -> dict[str, Any]:
    chosen, rejected = texts.completions(pair.chosen)
    return {
        "chosen": chosen.content,
        "rejected": rejected.content,
        "label": pair.label,
        "margin": pair.margin,
    }


def _rating_fields(rating: Rating, texts: Texts) -> dict[str, Any]:
    return {"completion": texts.completion(rating.completion).content, "desirable": rating.desirable}


def canonical(*, tools: Any = None, **fields: Any) -> bytes:
    """Return one line of the canonical form: the keys sorted, no spaces, UTF-8, ended by a newline.

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
    yield from _training_ratings(snapshot, held_out, base_model)


def _training_ratings(snapshot: Snapshot, held_out: bool, base_model: str | None) -> Iterator[dict[str, Any]]:
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
