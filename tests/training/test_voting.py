"""A probe as one more voter on the pairs of a round, and what it tells of annotators."""

import random
from pathlib import Path

import pytest
from django.utils import timezone

from annotate.models import Comparison, Moment
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot
from annotate.people.pseudonyms import pseudonym
from annotate.reports.reliability import collect
from primitives.reliability import Check
from tests.factories import compare, say
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.models import Round
from training.rounds import runner, state_machine
from training.rounds.phases.voting import BY_VOTES, labelled_pairs, votes_without_gates


def test_labels_of_a_probe_turn_pairs_round(tmp_path: Path) -> None:
    files = RunDirectory(tmp_path)
    sides = {"prompt": "p", "first": "good", "second": "bad"}
    write_jsonl(files.votes, [{"id": str(at), **sides} for at in range(1, 5)])
    labels = {"1": 0.9, "2": 0.9, "3": 0.5, "4": 0.2}
    write_jsonl(files.probe_labels, [{"id": key, "label": label} for key, label in labels.items()])
    as_shown = {"chosen": "good", "rejected": "bad", "chosen_token_ids": [1], "rejected_token_ids": [2]}
    turned = {"chosen": "bad", "rejected": "good", "chosen_token_ids": [2], "rejected_token_ids": [1]}
    pairs = [
        {"id": "1", **as_shown, "label": 1.0, "margin": 1.0},
        {"id": "2", **turned, "label": 1.0, "margin": 1.0},
        {"id": "3", **as_shown, "label": 1.0, "margin": 1.0},
        {"id": "4", **as_shown, "label": 1.0, "margin": 1.0},
        {"id": "5", **as_shown, "label": 0.7, "margin": 1.0},  # which the probe did not read
        {"id": "2/first", "completion": "bad", "label": False, "weight": 1.0},
    ]
    write_jsonl(files.pairs, pairs)
    expected = [
        ({"id": "1", **as_shown, "label": 0.9, "margin": 1.0}, False),
        ({"id": "2", **as_shown, "label": 0.9, "margin": 0.0}, True),
        ({"id": "4", **turned, "label": 0.8, "margin": 0.0}, True),
        (pairs[4], False),
        (pairs[5], False),
    ]
    found = list(labelled_pairs(files, keep_ties=False))
    assert found == expected
    write_jsonl(files.pairs, (row for row, _ in found))
    assert list(labelled_pairs(files, keep_ties=False)) == expected  # after a kill, from what votes said
    assert [row for _, row in read_jsonl(files.root / BY_VOTES)] == pairs
    assert len(list(labelled_pairs(files, keep_ties=True))) == 6


def test_a_probe_learns_from_what_the_snapshot_counts(ready_project, owner) -> None:
    """Not from hasty judgments where these are left out, gates, or what was judged later."""
    hasty, gate, gold = (compare(ready_project, what, " good", " bad") for what in ("hasty", "gate", "gold"))
    for comparison in (hasty, gate, gold):
        say(owner, comparison, "first")
    ready_project.judgments.filter(comparison=hasty).update(too_fast=True)
    Comparison.objects.filter(pk=gate.pk).update(kind="gate")
    Comparison.objects.filter(pk=gold.pk).update(kind="gold", gold_preferred=gold.second)
    snapshot = take_snapshot(ready_project, owner, PairSettings(include_too_fast=False, include_gold=True))
    say(owner, compare(ready_project, "later", " good", " bad"), "first")
    rows = {row["id"]: row for row in votes_without_gates(snapshot, "starter")}
    assert rows.keys() == {str(gold.pk)}  # those of the fixture are hasty too
    assert rows[str(gold.pk)]["gold"] == "second"
    assert rows[str(gold.pk)]["votes"] == [{"annotator": pseudonym(owner.pk), "prefers": "first"}]


def test_the_last_probe_with_skill_is_evidence(make_round, ready_project, owner, make_comparisons):
    say(owner, make_comparisons(1)[0], "first")
    probe = {"checks": {pseudonym(owner.pk): [[0.5, 4], [0.8, 3], [1.0, 2]], "annotator-0": [[0.9, 9]]}}
    for summary in ({"probe": probe}, {"probe": {"checks": {}}}, {}):
        round_ = make_round("cancelled")
        Round.objects.filter(pk=round_.pk).update(summary=summary)
    assert collect(ready_project).added["probe"] == {owner.pk: [Check(0.8, 3), Check(0.95, 2)]}


def test_a_moment_knows_the_probe_that_had_ended_by_then(make_round, ready_project, owner, make_comparisons):
    say(owner, make_comparisons(1)[0], "first")
    moments = []
    for chance in (0.8, 0.9):
        moments.append(Moment(timezone.now()))
        summary = {"probe": {"checks": {pseudonym(owner.pk): [[chance, 3]]}}}
        Round.objects.filter(pk=make_round("cancelled").pk).update(summary=summary)
    assert collect(ready_project, moments[0]).added["probe"] == {}
    assert collect(ready_project, moments[1]).added["probe"] == {owner.pk: [Check(0.8, 3)]}
    assert collect(ready_project).added["probe"] == {owner.pk: [Check(0.9, 3)]}


def test_what_an_archive_says_of_a_probe_is_checked(make_round, ready_project, owner, make_comparisons):
    say(owner, make_comparisons(1)[0], "first")
    odd = [["0.9", 3], [2.0, 3], [0.9, -1], [0.9, "x"], [0.9], 5, [True, 3], [0.7, 2]]
    for probe in ({"checks": {pseudonym(owner.pk): odd}}, {"checks": {"x": 7}}, {"checks": [1]}, None, [1]):
        Round.objects.filter(pk=make_round("cancelled").pk).update(summary={"probe": probe})
    assert collect(ready_project).added["probe"] == {owner.pk: [Check(0.7, 2)]}


@pytest.mark.slow
@pytest.mark.once
def test_a_round_is_trained_on_labels_of_its_probe(project, owner, make_member, tiny, client_for) -> None:
    """Two who know which word is the better one, and one who guesses. With the real engine: `make test-real`."""
    rng = random.Random(0)
    three = [make_member(name, "annotator") for name in ("anna", "bela", "cleo")]
    for number in range(90):
        texts = (f" It is splendidly made, scene {number}.", f" It is dreadfully made, scene {number}.")
        comparison = compare(project, f"Review number {number} begins", *texts)
        guessed = rng.choice(["first", "second"])
        say(three[number % 3], comparison, guessed if number % 3 == 2 else "first")
    round_ = state_machine.start(project, owner, tiny | {"pairs": {"votes": "probe"}, "gate_comparisons": 0})
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    runner.run(claimed)
    round_ = Round.objects.get(pk=round_.pk)
    assert (round_.state, round_.reason) == ("ready", "")
    told = round_.summary["vote"]
    assert told["used"]
    files = RunDirectory(round_.run_dir)
    right = [
        sum("splendidly" in row["chosen"] for _, row in read_jsonl(path))
        for path in (files.root / BY_VOTES, files.pairs)
    ]
    assert told["turned"] > 0
    assert right[1] > right[0]
    page = client_for(owner).get(round_.get_absolute_url()).content.decode()
    assert "A probe voted on the pairs beside the annotators" in page
    assert collect(project).added["probe"].keys() == {person.pk for person in three}
