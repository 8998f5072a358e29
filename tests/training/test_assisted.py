"""Rounds that learn from pairs that a probe labels: its votes, its pairs, and the words of the page."""

from typing import Any

import pytest

from annotate.models import Project
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot
from annotate.people.pseudonyms import pseudonym
from tests import factories
from tests.factories import judge_by_word
from tests.training.pages import text
from training.engine.rundir import RunDirectory, read_jsonl
from training.models import Round
from training.rounds import runner, state_machine
from training.rounds.choosing.votes import snapshot_votes

pytestmark = pytest.mark.django_db


def test_votes_are_those_of_the_snapshot_alone(ready_project: Project, teammate: Any, owner: Any) -> None:
    bad = factories.compare(ready_project, "Rated", " awfully", " badly")
    factories.say(owner, bad, "both_bad")
    snapshot = take_snapshot(ready_project, owner, PairSettings(both_bad="ratings"))
    factories.compare(ready_project, "Judged later", " splendidly", " badly")
    judge_by_word(ready_project, teammate)
    rows = list(snapshot_votes(snapshot, "starter"))
    assert len(rows) == 12  # without the four on held-out prompts, and the ratings of both bad
    assert all("splendidly" in row["first"] and "splendidly" not in row["second"] for row in rows)
    assert all(row["votes"] == [{"annotator": pseudonym(teammate.pk), "prefers": "first"}] for row in rows)
    assert not {"chosen", "rejected", "label", "weight"} & set().union(*rows)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            {"status": "assisted", "pairs": 5, "completions": 40, "skill": None},
            "learned from 5 pairs that a probe labelled, beside those that people judged. People judged 7.",
        ),
        ({"status": "skipped", "pairs": 0, "skill": None}, "The probe labelled no pair"),
        (None, ""),
    ],
)
def test_page_tells_who_labelled_the_pairs(
    finished: Round, client_for: Any, owner: Any, report: Any, said: str
) -> None:
    finished.summary |= {"assist": report} if report else {}
    finished.save()
    page = " ".join(text(client_for(owner).get(finished.get_absolute_url())).split())
    assert said in page
    assert ("probe labelled" in page) == bool(report)


@pytest.mark.slow
@pytest.mark.once
def test_round_learns_from_pairs_that_a_probe_labels(
    project: Project, teammate: Any, owner: Any, client_for: Any
) -> None:
    """The whole way, with the real engine."""
    for number in range(48):
        words = (f" It is splendidly made, scene {number}.", f" It is dreadfully made, scene {number}.")
        factories.compare(project, f"Review number {number} begins", *words)
    judge_by_word(project, teammate)
    chosen = {
        "training": {
            "epochs": 1,
            "kl_samples": 0,
            "threads": 1,
            "assist": {"pairs": 6, "candidates": 3, "drafted": 0.5},
        },
        "sampling": {"max_new_tokens": 12},
        "fresh_comparisons": 0,
        "gate_comparisons": 0,
    }
    claimed = state_machine.claim_round(state_machine.start(project, owner, chosen).pk, "worker of the tests")
    assert claimed is not None
    runner.run(claimed)
    round_ = Round.objects.get()
    assert (round_.state, round_.reason) == ("ready", "")
    files = RunDirectory(round_.run_dir)
    labelled = list(read_jsonl(files.assisted_pairs))
    people = len(list(read_jsonl(files.pairs)))
    assert len(labelled) == round_.summary["assist"]["pairs"] == 6
    assert round_.summary["train"]["pairs"] == people + 6
    assert RunDirectory(files.root / "assist" / "draft").read_done()["train"]["pairs"] == people + 3
    page = " ".join(text(client_for(owner).get(round_.get_absolute_url())).split())
    assert (
        f"learned from 6 pairs that a probe labelled, beside those that people judged. People judged {people}."
        in page
    )
    assert "3 pairs are of completions by a draft" in page
