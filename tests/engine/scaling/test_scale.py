"""The verb `scale`: what it measures, what it makes of the adapter, and that it may be cut off and repeated."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from tests.engine.conftest import pair_lines
from tests.engine.oracle import fresh
from training.engine.adapters.loading import load_scored
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, DataError
from training.engine.records import SamplingPrompt
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sampling.decoding import Generation, Sample
from training.engine.sampling.grouping import Request
from training.engine.scaling.divergence import as_rating, read_completions
from training.engine.scaling.intervals import mean_interval
from training.engine.scaling.search import find_scale
from training.engine.scaling.verb import choose_prompts, scale
from training.engine.score import make_scorer
from training.engine.train import train

LINES = pair_lines(16)
FAR: dict[str, Any] = {
    "batch_size": 8,
    "learning_rate": 0.02,
    "epochs": 3,
    "kl_samples": 24,
    "lora": {"r": 4, "alpha": 8},
    "sampling": {"max_new_tokens": 5},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunDirectory:
    """Return a run whose policy was trained far from the base model, and measured."""
    run = RunDirectory(tmp_path_factory.mktemp("scaled") / "far")
    run.write_config(TrainConfig.from_dict({"base_model": str(tiny_model), "dtype": "float32", **FAR}))
    write_jsonl(run.pairs, LINES)
    write_jsonl(run.heldout, LINES[:4])
    train(run)
    scale(run)
    return run


@pytest.fixture
def far(made: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(made.root, tmp_path / "far"))


def figures(run: RunDirectory) -> dict[str, Any]:
    return run.read_done()["scale"]


def budgeted(run: RunDirectory, budget: float | None, **changes: Any) -> RunDirectory:
    settings = json.loads(run.config_file.read_text()) | {"kl_budget": budget} | changes
    run.config_file.write_text(json.dumps(settings))
    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


def test_a_scaled_adapter_keeps_the_budget(far: RunDirectory, tiny_model: Path) -> None:
    """PEFT's own forward measures the same KL of what is on the disk, on completions of other seeds."""
    whole = figures(far)
    assert whole["status"] == "measured"
    assert whole["final"]["scale"] == 1.0
    assert not far.unscaled.exists()
    budget = whole["trained"]["kl"]["value"] / 3
    scale(budgeted(far, budget))
    found = figures(far)
    assert found["heldout"]["pairs"] == 4
    assert found["heldout"]["margin"] < far.read_done()["train"]["heldout"]["after"]["margin"]
    assert 0 < found["final"]["scale"] < 1
    assert found["final"]["kl"]["low"] <= budget <= 1.6 * found["final"]["kl"]["high"]
    before, after = weights(far.unscaled), weights(far.adapter)
    for name, one in after.items():
        factor = found["final"]["scale"] if ".lora_B." in name else 1.0
        assert torch.equal(one, before[name] * factor)
    policy = fresh(tiny_model, far.adapter)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    kl = sampled_kl(policy, [tokenizer(line["prompt"])["input_ids"] for line in LINES])
    assert 0 < kl < 1.5 * budget


def sampled_kl(policy: Any, prompts: list[list[int]]) -> float:
    """Return KL of completions that `policy` draws here, token by token, one prompt at a time."""
    torch.manual_seed(5)
    total = 0.0
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(5):
            with torch.no_grad():
                ours = policy(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
                with policy.disable_adapter():
                    theirs = policy(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            total += float((ours.exp() * (ours - theirs)).sum())
            ids.append(int(torch.multinomial(ours.exp(), 1)))
            if ids[-1] == 1:
                break
    return total / len(prompts)


def test_scaling_again_trains_and_changes_nothing(far: RunDirectory) -> None:
    """The same budget finds it done. After a kill behind the adapter, a larger one gives back the trained adapter."""
    budget = figures(far)["trained"]["kl"]["value"] / 3
    whole = weights(far.adapter)
    scale(budgeted(far, budget))
    done = far.done.read_bytes()
    scale(far)
    assert far.done.read_bytes() == done
    assert any(not torch.equal(one, whole[name]) for name, one in weights(far.adapter).items())
    entries = json.loads(done)
    del entries["scale"]  # as if it was killed before done.json
    far.done.write_text(json.dumps(entries))
    scale(budgeted(far, 1000.0))
    assert figures(far)["final"]["scale"] == 1.0
    assert all(torch.equal(one, whole[name]) for name, one in weights(far.adapter).items())
    # An adapter that is not train's is not touched.
    for folder in (far.adapter, far.unscaled):
        (folder / "adapter_model.safetensors").write_bytes(b"another")
    with pytest.raises(DataError, match="is the adapter that train wrote"):
        scale(budgeted(far, budget))


def test_against_an_adapter_the_policy_goes_back_to_it(far: RunDirectory, make_run) -> None:
    """At a small budget it is near where it started from, not near the base model."""
    second = make_run("second", pairs=pair_lines(16, seed=3), **FAR | {"start_adapter": str(far.adapter)})
    train(second)
    scale(second)
    budget = figures(second)["trained"]["kl"]["value"] / 4
    scale(budgeted(second, budget))
    found = figures(second)
    assert found["final"]["kl"]["low"] <= budget
    start, trained, kept = (weights(one) for one in (far.adapter, second.unscaled, second.adapter))
    share = found["final"]["scale"]
    for name, one in kept.items():
        torch.testing.assert_close(one, start[name] + share * (trained[name] - start[name]))


def test_what_no_scale_takes_back_is_refused(make_run) -> None:
    with pytest.raises(ConfigError, match=r"^kl_budget cannot be kept with lora\.dora"):
        make_run("dora", lora={"r": 4, "alpha": 8, "dora": True}, kl_budget=1.0)
    dora = make_run(
        "dora", lora={"r": 4, "alpha": 8, "dora": True}, kl_samples=16, sampling={"max_new_tokens": 3}
    )
    train(dora)
    scale(dora)  # which only measures
    assert figures(dora)["final"]["kl"]["value"] > 0
    run = make_run("untrained", kl_budget=1.0)
    with pytest.raises(DataError, match="holds no trained adapter; run train first"):
        scale(run)


@pytest.mark.parametrize("packing", ["on", "off"])
def test_divergence_is_that_of_whole_distributions(far: RunDirectory, packing: str) -> None:
    config = far.read_config()
    loaded = load_scored(config, far.adapter, beside_start=True)
    samples = [
        sample((5, 9, 20 + at), tuple(range(30 + at, 31 + 2 * at)) if at else ()) for at in range(0, 6)
    ]
    pairs = [as_rating(one) for one in samples[1:]]
    scorer = make_scorer(loaded, replace(config, packing=packing), pairs, print)
    found = read_completions(scorer, samples)
    assert (found[0].kl, found[0].logprob) == (0.0, 0.0)
    scorer.release()
    for one, reading in zip(samples[1:], found[1:], strict=True):
        ids = torch.tensor([[*one.request.prompt, *one.drawn.token_ids]])
        with torch.no_grad():
            ours = loaded.model(ids).logits[0].log_softmax(-1)
            with loaded.model.disable_adapter():
                theirs = loaded.model(ids).logits[0].log_softmax(-1)
        places = range(len(one.request.prompt) - 1, ids.shape[1] - 1)
        assert reading.kl == pytest.approx(
            sum(float((ours[at].exp() * (ours[at] - theirs[at])).sum()) for at in places), rel=1e-3, abs=1e-5
        )
        assert reading.logprob == pytest.approx(
            sum(float(ours[at, ids[0, at + 1]]) for at in places), abs=1e-3
        )


def sample(prompt: tuple[int, ...], written: tuple[int, ...]) -> Sample:
    drawn = Generation(written, 0.0, "length")
    return Sample(SamplingPrompt(id=str(prompt), prompt=""), 0, Request(prompt, 0), drawn, "", drawn)


def test_an_interval_of_skewed_values_covers_their_mean() -> None:
    """The values are log-normal, 48 at a time. The usual interval covers 86 % of their means."""
    torch.manual_seed(0)
    draws = torch.randn(200, 48).double().exp()
    found = [mean_interval(row.tolist(), least=0.0) for row in draws]
    covered = sum(one.low <= math.exp(0.5) <= one.high for one in found) / len(found)
    assert covered >= 0.91
    assert mean_interval([2.0]) == mean_interval([2.0, 2.0, 2.0])


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_a_scale_is_found_from_below_in_few_tries(power: float) -> None:
    tried = []

    def kl(share: float) -> float:
        tried.append(share)
        return 40 * share**power

    found = find_scale(2.0, 40.0, kl)
    assert 0.9 * 2.0 <= 40 * found**power <= 2.0
    assert len(tried) <= 7
    assert 0 < find_scale(1e-9, 40.0, kl) < 0.1


def test_prompts_are_drawn_alike_whatever_their_order(make_run) -> None:
    lines = pair_lines(30)
    one = make_run("one", pairs=[*lines, *({**line, "id": line["id"] + 100} for line in lines)])
    other = make_run("other", pairs=lines[::-1])
    config = one.read_config()
    drawn = choose_prompts(one, config, None)
    assert drawn == choose_prompts(other, config, None)
    assert sum(prompt.n or 0 for prompt in drawn) == config.kl_samples
