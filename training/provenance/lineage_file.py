"""Lineage as JSON: of a policy back to the judgments that shaped it, of a judgment on to the policies it shaped.

A policy's file is streamed, as it may name a million judgments. Annotators are pseudonyms in it, always.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db.models import Count, F, Prefetch, QuerySet

from annotate.models import Judgment, Policy, Snapshot, SnapshotPair, SnapshotRating
from annotate.people.pseudonyms import pseudonym
from training.models import Round
from training.rounds import lineage
from training.storage.folders import Folder

FORMAT = "whetstone-lineage/1"
AT_A_TIME = 500
WEIGHTS = "adapter/adapter_model.safetensors"  # as done.json names an adapter's weights


def policy_lines(policy: Policy) -> Iterator[bytes]:
    """Yield the JSON of a policy's lineage in pieces: it, its parents, their rounds and snapshots, pairs, judgments."""
    history = lineage.trace_back(policy)
    rounds = [step.round for step in history if step.round is not None]
    snapshots = {round_.snapshot.pk: round_.snapshot for round_ in rounds if round_.snapshot is not None}
    head: dict[str, Any] = {
        "format": FORMAT,
        "project": policy.project.slug,
        "policy": _policy(policy, history[0].round),
        "parents": [_policy(step.policy, step.round) for step in history[1:]],
        "children": [_policy(child, None) for child in lineage.find_descendants(policy)],
        "rounds": [describe_round(round_) for round_ in rounds],
        "snapshots": _snapshots(snapshots.values()),
        "annotators": _annotators(snapshots),
    }
    yield json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}").encode()
    digests = {pk: snapshot.digest for pk, snapshot in snapshots.items()}
    yield from _list("pairs", _pairs(digests))
    yield from _list("ratings", _ratings(digests))
    yield from _list(
        "judgments", map(describe_judgment, lineage.held_judgments(snapshots).iterator(chunk_size=2_000))
    )
    yield b"\n}\n"


def judgment_lineage(judgment: Judgment) -> dict[str, Any]:
    """Return a judgment's lineage: the pairs that hold it, the rounds that trained on them, the policies it shaped."""
    influences = lineage.find_influences_of(judgment)
    pairs = _with_arms(judgment.snapshot_pairs.select_related("snapshot").order_by("snapshot_id"))
    ratings = judgment.snapshot_ratings.select_related("snapshot").order_by("snapshot_id", "completion_id")
    return {
        "format": FORMAT,
        "project": judgment.project.slug,
        "judgment": describe_judgment(judgment),
        "pairs": [_pair(pair, pair.snapshot.digest) for pair in pairs.prefetch_related(_IDS)],
        "ratings": [_rating(one, one.snapshot.digest) for one in ratings.prefetch_related(_IDS)],
        "rounds": [describe_round(one.round) for one in influences if one.round is not None],
        "policies": [
            _policy(one.policy, one.round) | {"how": "round" if one.round else "descent"}
            for one in influences
        ],
    }


def describe_round(round_: Round) -> dict[str, Any]:
    """Return what made a round's policy: where it started, on which snapshot, with which settings and result."""
    outputs = Folder(round_.folder).read_done().get("train", {}).get("outputs", {})
    return {
        "number": round_.number,
        "state": round_.state,
        "start_policy": round_.start_policy_id,
        "result_policy": round_.result_policy_id,
        "snapshot": round_.snapshot.digest if round_.snapshot else None,
        "holds_forgotten": round_.holds_forgotten,
        "settings": round_.settings,
        "adapter_sha256": outputs.get(WEIGHTS),
        "created_at": round_.created_at.isoformat(),
    }


def describe_judgment(judgment: Judgment) -> dict[str, Any]:
    """Return who said what of which comparison, and when."""
    return {
        "judgment": judgment.pk,
        "comparison": judgment.comparison_id,
        "annotator": pseudonym(judgment.annotator_id),
        "verdict": judgment.verdict,
        "preferred": judgment.preferred_id,
        "strength": judgment.strength,
        "current": judgment.superseded_at is None,
        "first_at": judgment.first_at.isoformat(),
        "created_at": judgment.created_at.isoformat(),
    }


def _policy(policy: Policy, round_: Round | None) -> dict[str, Any]:
    return {
        "id": policy.pk,
        "name": policy.name,
        "kind": policy.kind,
        "base_model": policy.base_model,
        "revision": policy.revision,
        "parent": policy.parent_id,
        "brought_in": _origin(policy),
        "round": round_.number if round_ else None,
        "created_at": policy.created_at.isoformat(),
    }


def _origin(policy: Policy) -> dict[str, Any] | None:
    """Return where a policy that was made elsewhere came from, and who brought it in, under a pseudonym."""
    if not policy.origin:
        return None
    return {**policy.origin, "by": pseudonym(policy.brought_by_id) if policy.brought_by_id else None}


def _snapshots(snapshots: Iterable[Snapshot]) -> list[dict[str, Any]]:
    found = list(snapshots)
    holdings = lineage.count_holdings(snapshot.pk for snapshot in found)
    return [
        {
            "digest": snapshot.digest,
            "settings": snapshot.settings,
            "pairs": holdings.get(snapshot.pk, lineage.Holdings()).pairs,
            "ratings": holdings.get(snapshot.pk, lineage.Holdings()).ratings,
            "judgments": holdings.get(snapshot.pk, lineage.Holdings()).judgments,
            "forgotten": snapshot.forgotten,
            "created_at": snapshot.created_at.isoformat(),
        }
        for snapshot in found
    ]


def _annotators(snapshots: Iterable[int]) -> list[dict[str, Any]]:
    return [
        {"annotator": pseudonym(person), "judgments": count}
        for person, count in count_by_annotator(snapshots)
    ]


def count_by_annotator(snapshots: Iterable[int]) -> list[tuple[int, int]]:
    """Return (user id, number of judgments) of all whose judgments these snapshots hold, most first."""
    held = lineage.held_judgments(snapshots).order_by().values("annotator").annotate(count=Count("pk"))
    return list(held.order_by("-count", "annotator").values_list("annotator", "count"))


_IDS = Prefetch("judgments", queryset=Judgment.objects.only("pk").order_by("pk"))


def _pairs(digests: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    pairs = SnapshotPair.objects.filter(snapshot__in=digests).order_by("snapshot_id", "comparison_id")
    for pair in _with_arms(pairs).prefetch_related(_IDS).iterator(chunk_size=AT_A_TIME):
        yield _pair(pair, digests[pair.snapshot_id])


def _with_arms(pairs: QuerySet[SnapshotPair]) -> QuerySet[SnapshotPair]:
    """Add how the comparison of each pair came to be shown."""
    return pairs.annotate(arm=F("comparison__arm"), propensity=F("comparison__propensity"))


def _pair(pair: Any, digest: str) -> dict[str, Any]:
    return {
        "snapshot": digest,
        "comparison": pair.comparison_id,
        "chosen": pair.chosen_id,
        "rejected": pair.rejected_id,
        "label": pair.label,
        "margin": pair.margin,
        "weight": pair.weight,
        "held_out": pair.held_out,
        "arm": pair.arm or None,
        "propensity": pair.propensity,
        "judgments": [judgment.pk for judgment in pair.judgments.all()],
    }


def _ratings(digests: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    ratings = SnapshotRating.objects.filter(snapshot__in=digests)
    ordered = ratings.order_by("snapshot_id", "comparison_id", "completion_id")
    for rating in ordered.prefetch_related(_IDS).iterator(chunk_size=AT_A_TIME):
        yield _rating(rating, digests[rating.snapshot_id])


def _rating(rating: SnapshotRating, digest: str) -> dict[str, Any]:
    return {
        "snapshot": digest,
        "comparison": rating.comparison_id,
        "completion": rating.completion_id,
        "desirable": rating.desirable,
        "weight": rating.weight,
        "held_out": rating.held_out,
        "judgments": [judgment.pk for judgment in rating.judgments.all()],
    }


def _list(name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield a member of the object whose value is a list, one row a line."""
    yield f',\n "{name}": ['.encode()
    separator = b"\n  "
    for row in rows:
        yield separator + json.dumps(row, ensure_ascii=False).encode()
        separator = b",\n  "
    yield b"\n ]"
