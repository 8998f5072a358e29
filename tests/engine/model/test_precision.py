"""The chosen precision, and what bfloat16 changes: a measured little, and nothing between policy and reference."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.engine.conftest import read_metrics
from training.engine.config import TrainConfig
from training.engine.model import precision
from training.engine.model.base import choose_dtype
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.sample import sample
from training.engine.score import score
from training.engine.train import train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def scores(run: RunDirectory) -> list[dict]:
    return [row for _, row in read_jsonl(run.scores)]


def test_bfloat16_stays_within_a_bound_of_float32(make_run) -> None:
    # Measured here: losses at most 0.001 apart, reference scores of a completion 0.03 nats, margins 0.02.
    wide, narrow = (make_run(dtype, dtype=dtype, epochs=2) for dtype in ("float32", "bfloat16"))
    for run in (wide, narrow):
        train(run)
        score(run)
        dtype = run.root.name
        assert [run.read_done()[verb]["dtype"] for verb in ("train", "score")] == [dtype, dtype]
    for ours, theirs in zip(read_metrics(narrow), read_metrics(wide), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.01)
    for ours, theirs in zip(scores(narrow), scores(wide), strict=True):
        assert ours["reference_chosen_logp"] == pytest.approx(theirs["reference_chosen_logp"], abs=0.15)
        assert ours["margin"] == pytest.approx(theirs["margin"], abs=0.1)
    assert any(  # it did compute in another precision
        ours["reference_chosen_logp"] != pytest.approx(theirs["reference_chosen_logp"], abs=1e-4)
        for ours, theirs in zip(scores(narrow), scores(wide), strict=True)
    )


def test_float16_stays_within_a_bound_of_float32_and_resumes(make_run) -> None:
    settings = {"epochs": 2, "checkpoint_steps": 1, "sampling": {"max_new_tokens": 8}}
    wide, half = (make_run(name, dtype=name, **settings) for name in ("float32", "float16"))
    for run in (wide, half):
        train(run)
    for ours, theirs in zip(read_metrics(half), read_metrics(wide), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.003)
        assert ours["loss_scale"] >= 1
        assert "loss_scale" not in theirs
    assert read_metrics(half)[0]["rewards/margins"] == 0
    adapter = (half.adapter / "adapter_model.safetensors").read_bytes()
    half.done.unlink()
    (half.checkpoints / "step-00000005.json").unlink()
    train(half)
    assert (half.adapter / "adapter_model.safetensors").read_bytes() == adapter
    score(half)
    write_jsonl(half.prompts, [{"id": 1, "prompt": "the film"}])
    sample(half)
    assert [half.read_done()[verb]["dtype"] for verb in ("train", "score")] == ["float16", "float16"]


def test_policy_and_reference_are_computed_in_the_same_precision(make_run) -> None:
    """A reference in float32 would give the first step margins of some hundredths; here they are exactly 0."""
    run = make_run(dtype="bfloat16", batch_size=10)
    train(run)
    opening = read_metrics(run)[0]
    assert opening["rewards/margins"] == opening["displacement"] == opening["kl"] == 0
    assert opening["loss"] == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize(
    ("dtype", "device", "hidden_size", "able", "expected"),
    [
        ("float32", CUDA, 4096, True, torch.float32),
        ("bfloat16", CPU, 64, False, torch.bfloat16),
        ("auto", CUDA, 64, True, torch.bfloat16),  # from compute capability 8.0, Ampere, on
        ("auto", CUDA, 4096, False, torch.float16),  # Turing has tensor cores for float16 alone
        ("float16", CPU, 64, False, torch.float16),
        # Where it was measured to pay, for models that are large enough.
        (
            "auto",
            CPU,
            512,
            True,
            torch.bfloat16,
        ),
        ("auto", CPU, 511, True, torch.float32),
        ("auto", CPU, 4096, False, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_the_hardware_gains_from_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dtype: str,
    device,
    hidden_size: int,
    able: bool,
    expected,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0) if able else (7, 5))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        precision, "product_rate", lambda kind: 2.0 if able and kind == torch.bfloat16 else 1.0
    )
    config = TrainConfig.from_dict({"base_model": "m", "dtype": dtype})
    assert choose_dtype(config, device, hidden_size) == expected


def test_products_are_measured_once_per_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "whetstone" / "products.json"

    def measured() -> tuple[str, dict[str, float]]:
        ((machine, rates),) = json.loads(file.read_text()).items()
        return machine, rates

    decided = precision.bfloat16_pays()
    machine, rates = measured()
    assert decided == (rates["bfloat16"] > 1.3 * rates["float32"])
    assert min(rates.values()) > 1e6
    file.write_text(json.dumps({machine: {"float32": 1.0, "bfloat16": 1.0 if decided else 2.0}}))
    assert precision.bfloat16_pays() != decided
    file.write_text("[broken")
    decided = precision.bfloat16_pays()  # measured again, perhaps beside other work
    machine_again, rates = measured()
    assert machine_again == machine
    assert decided == (rates["bfloat16"] > 1.3 * rates["float32"])


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", '{"a": 1}', "rates of a wrong type"])
def test_kept_speeds_that_cannot_be_read_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "whetstone" / "products.json"
    precision.bfloat16_pays()
    whole = json.loads(file.read_text())
    file.write_text(
        json.dumps({key: [1] for key in whole}) if content == "rates of a wrong type" else content
    )
    assert precision.bfloat16_pays() in (True, False)
    assert json.loads(file.read_text()).keys() >= whole.keys()
