"""A round whose comparisons a probe chooses, with the real engine: `make test-real`."""

import json
from collections import Counter
from typing import Any

import pytest

from annotate.models import Project
from tests import factories
from tests.factories import judge_by_word
from tests.training.pages import text
from training.engine.rundir import RunDirectory, read_jsonl
from training.models import Round
from training.rounds import runner, state_machine

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.once]


def work_on(round_: Round) -> Round:
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    runner.run(claimed)
    return Round.objects.get(pk=round_.pk)


@pytest.fixture
def judged(project: Project, teammate: Any) -> Project:
    """Return a project in which 48 comparisons were judged by one word, and 9 prompts wait."""
    for number in range(57):
        pair = (f" It is splendidly made, scene {number}.", f" It is dreadfully made, scene {number}.")
        comparison = factories.compare(project, f"Review number {number} begins", *pair)
        if number >= 48:
            comparison.delete()
    judge_by_word(project, teammate)
    return project


def test_a_probe_chooses_what_a_round_shows(judged: Project, owner: Any, client_for: Any) -> None:
    sampling, choosing = {"max_new_tokens": 12}, {"candidates": 3, "control": 0.3}
    round_ = work_on(state_machine.write(judged, owner, 6, sampling, choosing=choosing))
    assert (round_.state, round_.reason) == ("written", "")
    files = RunDirectory(round_.run_dir)
    done = files.read_done()
    assert done["probe"]["skill"]["has_skill"]
    assert list(done) == ["probe", "sample", "rate", "choose"]
    assert Counter(one.arm for one in round_.fresh.all()) == {"probe": 4, "control": 2}
    lines = [row for _line, row in read_jsonl(files.root / "choices.jsonl")]
    assert len(lines) == 9  # half as many prompts again as are asked about
    assert len(list(read_jsonl(files.samples))) == 27
    kept = {row["id"]: row["propensity"] for row in lines if row["shown"]}
    for one in round_.fresh.all():
        assert one.propensity == pytest.approx(kept[f"fresh/1/{one.prompt_id}"])
    page = " ".join(text(client_for(owner).get(round_.get_absolute_url())).split())
    assert "The probe chose 4 fresh comparisons among 3 candidates each. 2 more were drawn at random" in page


def test_a_round_that_is_cut_off_chooses_the_same(judged: Project, owner: Any) -> None:
    """The second attempt finds the terms and the samples, and rates and draws once more."""
    round_ = work_on(
        state_machine.write(judged, owner, 6, {"max_new_tokens": 12}, choosing={"candidates": 3})
    )
    files = RunDirectory(round_.run_dir)
    before = (files.root / "choices.jsonl").read_bytes()
    done = files.read_done()
    files.done.write_text(json.dumps({name: done[name] for name in ("probe", "sample")}))
    (files.root / "choices.jsonl").unlink()
    Round.objects.filter(pk=round_.pk).update(state="failed", finished_at=None)
    state_machine.resume(Round.objects.get(pk=round_.pk), owner)
    round_.fresh.all().delete()
    again = work_on(Round.objects.get(pk=round_.pk))
    assert (again.state, again.reason) == ("written", "")
    assert (files.root / "choices.jsonl").read_bytes() == before
