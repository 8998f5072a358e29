"""“Both bad” as single ratings: from the verdict to the run directory, back again, forgotten, exported."""

import hashlib
import json
from typing import Any

import pytest
from django.core.management import call_command

from annotate.exports.account import estimate
from annotate.exports.formats import FORMATS
from annotate.exports.selection import Selection
from annotate.models import Comparison, Project, Snapshot, User
from annotate.pairs.filters import Filters
from annotate.pairs.pair_rows import pair_rows
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import canonical, exact_lines, take_snapshot, training_rows
from tests.factories import say
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory
from training.models import Round
from training.provenance.lineage_file import judgment_lineage, policy_lines
from training.rounds import lineage, runner, state_machine
from training.rounds.starts import RoundError
from training.usage import model_card

pytestmark = pytest.mark.django_db

RATED = PairSettings(both_bad="ratings")


@pytest.fixture
def bad(ready_project: Project, owner: User, make_comparisons: Any) -> list[Comparison]:
    """Return two comparisons that are both bad, the second of a held-out prompt, beside 16 pairs."""
    found: list[Comparison] = make_comparisons(2)
    found[1].prompt.held_out = True
    found[1].prompt.save()
    for comparison in found:
        say(owner, comparison, "both_bad")
    return found


def test_snapshots_without_ratings_keep_their_digests(project: Project, bad: list[Comparison]) -> None:
    before = take_snapshot(project, None)
    lines = [json.loads(line) for line in exact_lines(before)]
    assert [set(line) & {"completion", "desirable"} for line in lines] == [set()] * 16
    fields = {"label": 1.0, "margin": 2.0, "weight": 1.0, "held_out": False, "judgments": [7]}
    line = canonical(comparison=3, prompt="Once", chosen=" a", rejected=" b", **fields)
    stored = "91b8bab5eae7aafddc6086d2035840decd881e1b4ea2bacd60bf41819519d2a8"
    assert hashlib.sha256(line).hexdigest() == stored


def test_ratings_are_frozen_hashed_and_trained_on(
    project: Project, owner: User, bad: list[Comparison], tiny: dict[str, Any]
) -> None:
    plain = take_snapshot(project, None)
    kto = tiny | {"training": tiny["training"] | {"loss": "kto"}, "pairs": {"both_bad": "ratings"}}
    with pytest.raises(RoundError, match="kto") as refused:
        state_machine.start(project, owner, tiny | {"pairs": {"both_bad": "ratings"}})
    assert refused.value.field == "pairs.both_bad"
    round_ = state_machine.start(project, owner, kto)
    snapshot = round_.snapshot
    assert snapshot is not None
    assert snapshot != plain
    assert hashlib.sha256(b"".join(exact_lines(snapshot))).hexdigest() == snapshot.digest
    assert "12 pairs and 2 single ratings to train on." in round_.events.get().message
    counts = snapshot.counts
    assert counts["comparisons"] == counts["pairs"] + counts["rated"] + sum(counts["excluded"].values())

    files = RunDirectory(round_.run_dir)
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    runner.prepare(claimed, files)
    for path, comparison in ((files.pairs, bad[0]), (files.heldout, bad[1])):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rated = [row for row in rows if "completion" in row]
        assert {row["id"] for row in rated} == {f"{comparison.pk}/first", f"{comparison.pk}/second"}
        texts = {comparison.first.text, comparison.second.text}
        assert {row["completion"] for row in rated} == texts
        assert {row["label"] for row in rated} == {False}
        assert len(read_pairs(path)) == len(rows)


def test_ratings_lead_to_their_judgments_and_back(
    project: Project, owner: User, bad: list[Comparison], make_round: Any
) -> None:
    snapshot = take_snapshot(project, None, RATED)
    finished = make_round("ready")
    Round.objects.filter(pk=finished.pk).update(snapshot=snapshot)
    judgment = owner.judgments.get(comparison=bad[0])
    assert [one.policy for one in lineage.find_influences_of(judgment)] == [finished.result_policy]
    assert [one.judgments for one in lineage.find_influences(bad[0])] == [[judgment]]
    assert lineage.count_holdings([snapshot.pk]) == {snapshot.pk: lineage.Holdings(16, 4, 18, 2)}
    assert judgment in lineage.held_judgments([snapshot.pk])
    back = judgment_lineage(judgment)["ratings"]
    written = json.loads(b"".join(policy_lines(finished.result_policy)))
    assert [row for row in written["ratings"] if row["comparison"] == bad[0].pk] == back
    assert {row["completion"] for row in back} == {bad[0].first_id, bad[0].second_id}
    assert [row["judgments"] for row in back] == [[judgment.pk]] * 2
    assert "single ratings among them | 18 | " in model_card.write(finished.result_policy)


def test_what_was_forgotten_is_in_no_rating(project: Project, owner: User, bad: list[Comparison]) -> None:
    snapshot = take_snapshot(project, None, RATED)
    call_command("forget", "--prompt", str(bad[0].prompt_id), "--project", project.slug, "--yes")
    assert [row["id"] for row in training_rows(snapshot) if "completion" in row] == []
    assert len(list(training_rows(snapshot, held_out=True))) == 6
    assert Snapshot.objects.get(pk=snapshot.pk).forgotten == 2


def test_a_snapshots_ratings_leave_as_kto_rows(project: Project, bad: list[Comparison]) -> None:
    snapshot = take_snapshot(project, None, RATED)
    selection = Selection(project, FORMATS["kto"], Filters(held_out="include"), snapshot=snapshot)
    rows = [row for row in selection.rows() if row["both_bad"]]
    assert {row["completion_id"] for row in rows} == {
        pk for one in bad for pk in (one.first_id, one.second_id)
    }
    assert not any(row["label"] for row in rows)
    assert estimate(selection) == len(list(selection.rows()))
    assert len(list(pair_rows(project, Filters(held_out="include"), snapshot=snapshot))) == 16
