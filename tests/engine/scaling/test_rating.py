"""A probe's scores of completions that were measured: the same as the verb `rate`, and never in the way."""

import random
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.probe.test_probing import STARTER, review_votes, vote
from training.engine.__main__ import main
from training.engine.config import TrainConfig
from training.engine.probe.base_reader import base_digests
from training.engine.probe.probing import fit_run
from training.engine.probe.rating import rate
from training.engine.probe.regression import Posterior
from training.engine.probe.storage import Standard, load_probe
from training.engine.records import SamplingPrompt
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.sample import sample
from training.engine.sampling.decoding import Generation, Sample
from training.engine.sampling.grouping import Request
from training.engine.scaling.rating import find_probe, rate_samples, skilled_probe
from training.engine.scaling.verb import scale
from training.engine.starter import reviews
from training.engine.train import train

SETTINGS: dict[str, Any] = {
    "base_model": str(STARTER),
    "batch_size": 8,
    "learning_rate": 2e-3,
    "epochs": 1,
    "kl_samples": 16,
    "sampling": {"max_new_tokens": 24, "samples_per_prompt": 3},
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run with a probe, and pairs of the same taste."""
    run = RunDirectory(tmp_path_factory.mktemp("rated") / "run")
    run.write_config(TrainConfig.from_dict(SETTINGS))
    write_jsonl(run.votes, review_votes(150))
    rng, rows = random.Random(1), []
    for number in range(16):
        opening, one = reviews.review(rng)
        worse, better = sorted([one, reviews.review(rng)[1]], key=reviews.reward)
        rows.append({"id": number, "prompt": opening, "chosen": better, "rejected": worse})
    write_jsonl(run.pairs, rows)
    fit_run(run)
    train(run)
    return run


@pytest.fixture
def run(fitted: RunDirectory, tmp_path: Path) -> RunDirectory:
    """Return a copy of it, whose probe may be damaged."""
    return RunDirectory(shutil.copytree(fitted.root, tmp_path / "run"))


def test_scores_are_those_of_the_verb_rate(fitted: RunDirectory) -> None:
    write_jsonl(fitted.prompts, [{"id": str(at), "prompt": f"A {word}"} for at, word in enumerate("ab")])
    sample(fitted)
    rate(fitted)
    by_prompt: dict[str, list[float]] = {}
    samples = []
    for (_, line), (_, rating) in zip(read_jsonl(fitted.samples), read_jsonl(fitted.ratings), strict=True):
        by_prompt.setdefault(line["id"], []).append(rating["score"])
        drawn = Generation(tuple(line["token_ids"]), line["logprob"], line["finish_reason"])
        prompt = SamplingPrompt(id=line["id"], prompt="", tools=None, n=3)
        request = Request(tuple(line["prompt_token_ids"]), line["seed"])
        samples.append(Sample(prompt, line["index"], request, drawn, line["completion"], drawn))
    config = fitted.read_config()
    folder = find_probe(fitted, config)
    assert folder is not None
    probe = skilled_probe(folder, config)
    assert probe is not None
    alone, both, nothing = rate_samples(fitted, config, probe, [samples[:3], samples, []])
    means = [statistics.fmean(some) for some in by_prompt.values()]
    assert alone is not None
    assert both is not None
    assert nothing is None
    assert alone.value == pytest.approx(means[0], abs=1e-3)
    assert both.value == pytest.approx(statistics.fmean(means), abs=1e-3)
    assert both.low <= both.value <= both.high


def test_a_rating_that_fails_is_told_and_the_scale_is_kept(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with monkeypatch.context() as patch:
        patch.setattr("training.engine.probe.base_reader.load_scored", too_large)
        assert main(["scale", str(run.root)]) == 0
    told = run.read_done()["scale"]
    assert told["final"]["probe"] is None
    assert told["events"] == [
        "The probe did not rate what was written: Out of memory: lower max_tokens, and start again."
    ]


def test_a_probe_of_other_features_rates_nothing(run: RunDirectory) -> None:
    found, ones = load_probe(run.probe, base_digests(run.read_config())), torch.ones(4, 300)
    posterior, standard = Posterior(ones[0], ones[1][:, None], 1.0), Standard(ones[2], ones[3])
    replace(found, posterior=posterior, standard=standard).save(run.probe)
    assert main(["scale", str(run.root)]) == 0
    assert "reads other features than this model has" in run.read_done()["scale"]["events"][-1]


def test_before_and_after_are_rated_and_a_bad_probe_is_told(run: RunDirectory) -> None:
    scale(run)
    found = run.read_done()["scale"]
    before, after = found["reference"]["probe"], found["final"]["probe"]
    for one in (before, after):
        assert one["low"] < one["value"] < one["high"]
    assert before["value"] != after["value"]
    assert found["events"] == []
    (run.probe / "probe.json").write_text("{}")
    scale(run)  # once more, as the probe is another one
    told = run.read_done()["scale"]
    assert told["final"]["probe"] is None
    assert told["final"]["kl"] == found["final"]["kl"]
    assert "The probe did not rate what was written" in told["events"][-1]


def test_a_probe_without_skill_rates_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    config = TrainConfig.from_dict({"base_model": str(STARTER)})
    run.write_config(config)
    assert find_probe(run, config) is None
    votes = [row | {"votes": [vote("first")]} for row in review_votes(4)]
    write_jsonl(run.votes, votes)
    fit_run(run)
    assert skilled_probe(run.probe, config) is None
