"""The phase in which a probe, fitted to the snapshot's judgments, labels pairs of fresh completions.

The votes are those of the snapshot and no others: a round that is done over after a person was forgotten fits its
probe, and labels its pairs, as if they had never judged.
"""

from training.engine.rundir import RunDirectory, write_jsonl
from training.rounds.choosing.votes import snapshot_votes
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import Work


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
        write_jsonl(votes, snapshot_votes(work.round.snapshot, work.plan.config.base_model))
    run_verb(work, "assist")
