"""The reference: measured once, without dropout, and never taken from a cache that something else filled."""

import json
import math
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from tests.engine.conftest import make_model, make_tokenizer, pair_lines, read_metrics, tiny_llama
from tests.engine.oracle import encode, fresh, logp
from training.engine.adapters.loading import load_policy
from training.engine.config import TrainConfig
from training.engine.errors import StaleCheckpointError
from training.engine.model.base import model_files
from training.engine.optimize.reference import cache_key
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.score import make_scorer, score
from training.engine.train import train


def reference(run: RunDirectory) -> torch.Tensor:
    """(pairs, 2), as the run keeps them."""
    return safetensors.torch.load_file(run.root / "reference.safetensors")["logps"]


def test_cache_key_covers_all_that_could_change_a_number(make_run, tmp_path: Path) -> None:
    run = make_run()

    def key(lines=None, **settings: object) -> str:
        config = TrainConfig.from_dict(run.read_config().to_dict() | settings)
        loaded = load_policy(config)
        path = tmp_path / "pairs.jsonl"
        write_jsonl(path, lines or pair_lines(4))
        pairs, _ = loaded.make_encoder(config).encode_pairs(read_pairs(path))
        scorer = make_scorer(loaded, config, pairs, print)
        groups = [scorer.groups(pairs, range(len(pairs)))]
        return cache_key(pairs, groups, form=scorer.form, model=model_files(config), dtype=str(loaded.dtype))

    other_model, other_template = tmp_path / "other", tmp_path / "template"
    for path, seed_changed in ((other_model, True), (other_template, False)):
        model = make_model(tiny_llama())
        if seed_changed:
            model.lm_head.weight.data[0, 0] += 1e-3
        model.save_pretrained(path)
        make_tokenizer(bos=True).save_pretrained(path)
    (other_template / "chat_template.jinja").write_text("{{ messages }}")
    train(run)
    keys = [
        key(),
        key(base_model=str(other_model)),
        key(base_model=str(other_template)),
        key(start_adapter=str(run.adapter)),
        key(dtype="bfloat16"),
        key(max_length=8),
        key(max_tokens=32),
        key(packing="off"),
        key(lines=[*pair_lines(3), pair_lines(5)[4]]),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]
    assert key(beta=0.5, learning_rate=1.0) == keys[0]


def test_a_reference_cache_is_used_under_its_own_key_alone(make_run) -> None:
    run = make_run()
    train(run)
    with safe_open(run.root / "reference.safetensors", framework="pt") as file:
        key, logps = file.metadata()["key"], file.get_tensor("logps")
    logps[:, 0] -= 10  # a cache that shows in the loss
    marked = safetensors.torch.save({"logps": logps}, metadata={"key": key})

    def first_loss(name: str, **settings: object) -> float:
        other = make_run(name, **settings)
        (other.root / "reference.safetensors").write_bytes(marked)
        train(other)
        return read_metrics(other)[0]["loss"]

    assert first_loss("same") == pytest.approx(-math.log(1 / (1 + math.exp(-0.1 * 10))), abs=1e-9)
    assert first_loss("shorter", max_length=10) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("changed", ["dtype", "start_adapter", "base_model"])
def test_reference_is_remeasured_when_the_policy_changed(make_run, tmp_path: Path, changed: str) -> None:
    run = make_run()
    train(run)
    before = reference(run)
    if changed == "start_adapter":
        shutil.copytree(run.adapter, tmp_path / "start_adapter")
    else:
        model = make_model(tiny_llama())
        model.lm_head.weight.data += 1e-3
        model.save_pretrained(tmp_path / "base_model")
        make_tokenizer(bos=True).save_pretrained(tmp_path / "base_model")
    value = "bfloat16" if changed == "dtype" else str(tmp_path / changed)
    fresh = make_run("fresh", **{changed: value})
    train(fresh)
    run.write_config(fresh.read_config())
    shutil.rmtree(run.checkpoints)
    train(run)
    assert torch.equal(reference(run), reference(fresh))
    assert not torch.equal(reference(run), before)


def test_dropout_is_off_in_reference_and_packing_check(make_run) -> None:
    first = make_run("first")
    train(first)
    runs = [
        make_run(
            f"dropout {rate}", start_adapter=str(first.adapter), lora={"r": 4, "alpha": 8, "dropout": rate}
        )
        for rate in (0.0, 0.5)
    ]
    for run in runs:
        train(run)
        assert run.read_done()["train"]["packed"]
    assert torch.equal(reference(runs[0]), reference(runs[1]))
    margins = [read_metrics(run)[0]["rewards/margins"] for run in runs]
    assert margins[0] == 0
    assert margins[1] != 0  # the policy's own forward did drop


@pytest.mark.parametrize("kind", ["base", "path"])
def test_a_reference_of_its_own_is_measured_and_kept(kind: str, make_run) -> None:
    """The figures of before the first step are then those of the start against it, also for KTO's point."""
    pairs = pair_lines(4)
    other = make_run("other", pairs=pairs, seed=3, lora={"r": 2, "alpha": 8, "dora": True})
    start = make_run("start", pairs=pairs)
    for one in (other, start):
        train(one)
    adapter = None if kind == "base" else other.adapter
    run = make_run(
        pairs=pairs,
        loss="kto",
        epochs=2,
        start_adapter=str(start.adapter),
        reference="base" if adapter is None else str(adapter),
        checkpoint_steps=1,
    )
    write_jsonl(run.heldout, pair_lines(2, seed=1))
    train(run)
    model = Path(run.read_config().base_model)
    policy, against = fresh(model, start.adapter), fresh(model, adapter)
    encoded = encode(run)
    ours, theirs = (
        [[logp(one, pair.prompt, text) for text in (pair.chosen, pair.rejected)] for pair in encoded]
        for one in (policy, against)
    )
    torch.testing.assert_close(reference(run)[4:6].float(), torch.tensor(theirs), atol=1e-4, rtol=1e-5)
    gains = torch.tensor(ours) - torch.tensor(theirs)
    before = run.read_done()["train"]["heldout"]["before"]
    assert before["margin"] == pytest.approx(float(0.1 * (gains[:, 0] - gains[:, 1]).mean()), abs=1e-4)
    assert read_metrics(run)[0]["rewards/margins"] != 0
    written = (run.adapter / "adapter_model.safetensors").read_bytes()
    assert b"reference" not in written[:4000]
    run.done.unlink()
    (run.checkpoints / "step-00000001.json").unlink(missing_ok=True)
    (run.root / "reference.safetensors").unlink()
    train(run)
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == written
    score(run, run.heldout)
    lines = [json.loads(line) for line in run.scores.read_text().splitlines()]
    found = [[line["reference_chosen_logp"], line["reference_rejected_logp"]] for line in lines]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(theirs), atol=1e-4, rtol=1e-5)
    config = run.read_config().to_dict() | {"reference": "start"}
    run.write_config(TrainConfig.from_dict(config))
    run.done.unlink()
    with pytest.raises(StaleCheckpointError):
        train(run)
