"""The phase in which a probe votes on the pairs of a round, beside the annotators, before they are trained on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.rounds.choosing.votes import has_enough, vote_rows
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import ChildFailedError, Work

BY_VOTES = "pairs_by_votes.jsonl"
_OF_A_SIDE = ("", "_token_ids", "_finish_reason")


def wants_votes(work: Work) -> bool:
    """Return whether the pairs of a round are labelled with a probe as one more voter."""
    return work.round.trains and work.plan.pairs.votes == "probe"


def vote(work: Work) -> None:
    """Fit a probe to the judgments, and label the pairs by it where it has skill; tell why not where it does not.

    A retry finds what was done, unless its files were forgotten before the training. The snapshot keeps the labels by
    votes alone.
    """
    files = work.files
    if files.has_done("vote") or files.has_done("train"):
        return
    if not has_enough(work.round.project):
        _tell(files, {"used": False}, "The probe had no vote: there are too few judgments to fit it to.")
        return
    if not files.votes.exists():
        rows = vote_rows(work.round.project, work.plan.config.base_model, at=work.round.created_at)
        write_jsonl(files.votes, rows)
    try:
        run_verb(work, "probe")
    except ChildFailedError as error:
        _tell(files, {"used": False}, f"The probe had no vote. {error}")
        return
    skill = files.read_done()["probe"]["skill"]
    if not skill["has_skill"]:
        _tell(
            files,
            {"used": False},
            "The probe had no vote: it does not foretell judgments better than chance.",
        )
        return
    shift = work.round.snapshot.comparison_shift if work.round.snapshot else 0
    pairs = list(labelled_pairs(files, shift, keep_ties=work.plan.pairs.ties == "half"))
    told = {
        "used": True,
        "pairs": len(pairs),
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


def _tell(files: RunDirectory, summary: Mapping[str, Any], event: str) -> None:
    outputs = [files.pairs]
    if summary["used"]:  # without these the labels in pairs.jsonl cannot be told from those by votes
        outputs += [files.root / BY_VOTES, files.probe_labels]
    inputs = files.hashes([files.votes, files.probe_labels])
    files.finish("vote", {**summary, "events": [event]}, inputs, outputs)


def labelled_pairs(
    files: RunDirectory, shift: int, *, keep_ties: bool
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the pairs by the labels of probe_labels.jsonl, and whether that turned each round.

    `shift` leads from a pair's id to its comparison's. A pair that turned round asks for no margin: people's strength
    was for the other side. A pair that the probe did not read stays as it is.
    """
    labels = {row["id"]: row["label"] for _line, row in read_jsonl(files.probe_labels)}
    sides = {row["id"]: (row["first"], row["second"]) for _line, row in read_jsonl(files.votes)}
    for _line, row in read_jsonl(_by_votes(files)):
        comparison = str(int(row["id"]) + shift)
        shown = (row["chosen"], row["rejected"])
        if comparison not in labels or sides[comparison] not in (shown, shown[::-1]):
            yield row, False
            continue
        label = labels[comparison] if sides[comparison] == shown else 1 - labels[comparison]
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
