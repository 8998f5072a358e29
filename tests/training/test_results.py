"""The prompts that a round writes for, and its samples as comparisons."""

from pathlib import Path
from typing import Any

import pytest

from annotate.models import Comparison
from training.engine.rundir import RunDirectory
from training.models import Round
from training.rounds import finishing, results

pytestmark = pytest.mark.django_db


def test_prompts_that_nothing_was_written_for_are_counted(tmp_path: Path) -> None:
    files = RunDirectory(tmp_path)
    assert finishing.count_passed_over(files) == {}
    files.finish("sample", {"too_long": ["4", "5"], "refused": 1}, {}, [])
    assert finishing.count_passed_over(files) == {"too_long": 2, "refused": 1}


def test_without_held_out_prompts_the_gate_is_empty(claimed: Round) -> None:
    assert len(results.gate_entries(claimed, 4)) == 4
    claimed.project.prompts.update(held_out=False)
    assert results.gate_entries(claimed, 4) == []


def test_rounds_write_nothing_for_withdrawn_prompts(claimed: Round) -> None:
    kept = claimed.project.prompts.filter(held_out=False)[:2].values_list("pk", flat=True)
    for prompt in claimed.project.prompts.exclude(pk__in=list(kept)):
        assert prompt.withdraw()
    entries = results.fresh_entries(claimed, 10)
    assert {int(entry["id"].split("/")[2]) for entry in entries} == set(kept)
    assert results.gate_entries(claimed, 4) == []


def test_few_held_out_prompts_are_sampled_more_often_to_a_limit(claimed: Round) -> None:
    """4 held-out prompts: 10 comparisons are 3 + 3 + 2 + 2, and 100 are held to 8 each."""
    assert [entry["n"] for entry in results.gate_entries(claimed, 10)] == [3, 3, 2, 2]
    assert [entry["n"] for entry in results.gate_entries(claimed, 100)] == [8, 8, 8, 8]


def test_fresh_comparisons_go_to_the_least_compared_prompts(claimed: Round, make_comparisons: Any) -> None:
    """12 prompts were compared once; 2 new ones come first, and a fifteenth comparison begins the second turn."""
    for comparison in make_comparisons(2):
        Comparison.objects.filter(pk=comparison.pk).delete()
    new = set(claimed.project.prompts.filter(comparisons=None).values_list("pk", flat=True))
    assert {int(entry["id"].split("/")[2]) for entry in results.fresh_entries(claimed, 2)} == new
    entries = results.fresh_entries(claimed, 15)
    assert [entry["n"] for entry in entries] == [4] + [2] * 13


def lines_of(round_: Round, *said: str) -> list[dict[str, Any]]:
    """Return lines of samples.jsonl: completions of one prompt of a round."""
    prompt = round_.project.prompts.filter(held_out=False).first()
    assert prompt is not None
    told = {"token_ids": [5], "logprob": -1.0, "finish_reason": "stop", "seed": 0, "temperature": 1.0}
    entry = f"fresh/1/{prompt.pk}"
    return [{"id": entry, "index": index, "completion": text, **told} for index, text in enumerate(said)]


def test_completions_that_are_empty_or_equal_make_no_comparison(claimed: Round) -> None:
    samples = lines_of(claimed, " good", " good ", "  ", " fine", " bad")
    made = results.make_comparisons(claimed, claimed.start_policy, samples, [])
    assert [{one.first.text, one.second.text} for one in made.fresh] == [{" fine", " bad"}]
    assert dict(made.counts) == {"empty": 1, "equal": 1}
    assert made.completions[0].sampling == {"temperature": 1.0}


def test_completions_that_no_database_holds_are_passed_over(claimed: Round) -> None:
    samples = lines_of(claimed, " good", " f\0ine", " bad")
    made = results.make_comparisons(claimed, claimed.start_policy, samples, [])
    made.save(claimed)
    assert [{one.first.text, one.second.text} for one in made.fresh] == [{" good", " bad"}]
    assert dict(made.counts) == {"unstorable": 1}
