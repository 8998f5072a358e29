"""The phase in which a probe, fitted to the snapshot's judgments, labels pairs of fresh completions.

The votes are those of the snapshot and no others: a round that is done over after a person was forgotten fits its
probe, and labels its pairs, as if they had never judged.
"""

from collections.abc import Iterator
from typing import Any

from django.db.models import Q

from annotate.models import Judgment, Snapshot
from annotate.pairs.snapshots import stored_pairs, training_rows
from annotate.people.pseudonyms import pseudonym
from training.engine.rundir import RunDirectory, write_jsonl
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import Work

_RENAMED = {"chosen": "first", "rejected": "second"}
_NOT_OF_VOTES = ("label", "margin", "weight")


def is_assisted(work: Work) -> bool:
    """Return whether a probe is to label pairs for the round."""
    return work.round.trains and work.plan.config.assist.pairs > 0


def assist(work: Work) -> None:
    """Write the snapshot's votes, and let a probe of them label pairs. Raises as `run_verb` does.

    What a trained policy was trained on stays as it is recorded, even when its files were forgotten.
    """
    if work.files.has_done("train"):
        return
    votes = RunDirectory(work.files.root / "assist").votes
    if not votes.exists() and work.round.snapshot is not None:
        votes.parent.mkdir(exist_ok=True)
        write_jsonl(votes, vote_rows(work.round.snapshot, work.plan.config.base_model))
    run_verb(work, "assist")


def vote_rows(snapshot: Snapshot, base_model: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of votes.jsonl: each pair that is trained on, with the votes that count and a known answer."""
    given = {
        key: (annotator, preferred)
        for key, annotator, preferred in Judgment.objects.filter(snapshot_pairs__snapshot=snapshot)
        .values_list("pk", "annotator_id", "preferred_id")
        .iterator()
    }
    known = snapshot.pairs.exclude(comparison__gold_preferred=None)
    gold = dict(known.values_list("comparison_id", "comparison__gold_preferred_id"))
    pairs = stored_pairs(snapshot, Q(held_out=False))
    rows = training_rows(snapshot, base_model=base_model)
    for pair, row in zip(pairs, rows, strict=False):  # ratings come after the pairs, and are not votes
        sides = {pair.chosen: "first", pair.rejected: "second"}
        answer = sides.get(gold.get(pair.comparison, 0))
        yield {
            **({"gold": answer} if answer else {}),
            **{_renamed(name): value for name, value in row.items() if name not in _NOT_OF_VOTES},
            "votes": [
                {"annotator": pseudonym(annotator), "prefers": sides.get(preferred, "tie")}
                for annotator, preferred in (given[key] for key in pair.judgments)
            ],
        }


def _renamed(name: str) -> str:
    """Return a key of pairs.jsonl as votes.jsonl has it."""
    side, dot, rest = name.partition("_")
    return _RENAMED.get(side, side) + dot + rest
