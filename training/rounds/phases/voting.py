"""The phase in which a probe votes on the pairs of a round, beside the annotators, before they are trained on.

It learns from the judgments that the snapshot counts and no others. So a round that is done over after a person was
forgotten labels its pairs as if they had never judged.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from annotate.models import Comparison, Judgment, Snapshot
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.rounds.choosing.votes import MIN_PREFERENCES, snapshot_votes
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import ChildFailedError, Work

BY_VOTES = "pairs_by_votes.jsonl"
_OF_A_SIDE = ("", "_token_ids", "_finish_reason")


def wants_votes(work: Work) -> bool:
    """Return whether the pairs of a round are labelled with a probe as one more voter."""
    return work.round.trains and work.plan.pairs.votes == "probe"


def vote(work: Work) -> None:
    """Fit a probe to the snapshot's judgments, and label the pairs by it where it has skill. Tell where it has none.

    A retry finds what was done, unless its files were forgotten before the training. The snapshot keeps the labels by
    votes alone.
    """
    files, snapshot = work.files, work.round.snapshot
    if files.has_done("vote") or files.has_done("train"):
        return
    if snapshot is None or not _has_enough(snapshot):
        _tell_no_vote(files, "The probe had no vote: there are too few judgments to fit it to.")
        return
    if not files.votes.exists():
        write_jsonl(files.votes, votes_without_gates(snapshot, work.plan.config.base_model))
    try:
        run_verb(work, "probe")
    except ChildFailedError as error:
        _tell_no_vote(files, f"The probe had no vote. {error}")
        return
    skill = files.read_done()["probe"]["skill"]
    if not skill["has_skill"]:
        _tell_no_vote(files, "The probe had no vote: it does not foretell judgments better than chance.")
        return
    _label(files, skill, keep_ties=work.plan.pairs.ties == "half")


def _label(files: RunDirectory, skill: Mapping[str, Any], *, keep_ties: bool) -> None:
    """Write the pairs with labels of annotators and probe, and tell of it."""
    pairs = list(labelled_pairs(files, keep_ties=keep_ties))
    told = {
        "used": True,
        "pairs": sum("chosen" in row for row, _turned in pairs),
        "turned": sum(turned for _row, turned in pairs),
        "accuracy": skill["accuracy"],
    }
    write_jsonl(files.pairs, (row for row, _turned in pairs))
    _tell(
        files,
        told,
        f"A probe voted on the pairs beside the annotators (right on {skill['accuracy']:.0%} of unseen judgments,"
        f" {skill['low']:.0%} to {skill['high']:.0%}). It turned {told['turned']} of {told['pairs']} round.",
    )


def _tell_no_vote(files: RunDirectory, why: str) -> None:
    _tell(files, {"used": False}, why)


def _tell(files: RunDirectory, summary: Mapping[str, Any], event: str) -> None:
    outputs = [files.pairs]
    if summary["used"]:  # without these the labels in pairs.jsonl cannot be told from those by votes
        outputs += [files.root / BY_VOTES, files.probe_labels]
    inputs = files.hashes([files.votes, files.probe_labels])
    files.finish("vote", {**summary, "events": [event]}, inputs, outputs)


def _has_enough(snapshot: Snapshot) -> bool:
    """Return whether a snapshot counts enough preferences to fit a probe to."""
    counted = snapshot.pairs.filter(held_out=False).exclude(comparison__kind=Comparison.Kind.GATE)
    return counted.filter(judgments__verdict=Judgment.Verdict.PREFER).count() >= MIN_PREFERENCES


def votes_without_gates(snapshot: Snapshot, base_model: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of votes.jsonl. Gates are left out: they are evidence on annotators by themselves."""
    gates = snapshot.pairs.filter(comparison__kind=Comparison.Kind.GATE)
    left_out = {str(key - snapshot.comparison_shift) for key in gates.values_list("comparison_id", flat=True)}
    return (row for row in snapshot_votes(snapshot, base_model) if row["id"] not in left_out)


def labelled_pairs(files: RunDirectory, *, keep_ties: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the pairs by the labels of probe_labels.jsonl, and whether that turned each round.

    A pair that turned round asks for no margin: people's strength was for the other side. A pair that the probe did
    not read stays as it is, and so does a rating.
    """
    labels = {row["id"]: row["label"] for _line, row in read_jsonl(files.probe_labels)}
    sides = {row["id"]: (row["first"], row["second"]) for _line, row in read_jsonl(files.votes)}
    for _line, row in read_jsonl(_by_votes(files)):
        if "completion" in row:
            yield row, False
            continue
        key, shown = row["id"], (row["chosen"], row["rejected"])
        if key not in labels or sides[key] not in (shown, shown[::-1]):
            yield row, False
            continue
        label = labels[key] if sides[key] == shown else 1 - labels[key]
        if label < 0.5:
            yield _turned(row) | {"label": 1 - label, "margin": 0.0}, True
        elif label > 0.5 or keep_ties:
            yield row | {"label": label}, False


def _by_votes(files: RunDirectory) -> Path:
    """Return the file of the pairs as the votes alone label them, which is kept beside pairs.jsonl."""
    kept = files.root / BY_VOTES
    if not kept.exists():
        write_jsonl(kept, (row for _line, row in read_jsonl(files.pairs)))
    return kept


def _turned(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pair with its sides exchanged."""
    names = {f"chosen{ending}": f"rejected{ending}" for ending in _OF_A_SIDE}
    names |= {rejected: chosen for chosen, rejected in names.items()}
    return {names.get(name, name): value for name, value in row.items()}
