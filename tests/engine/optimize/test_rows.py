"""A run resumes in the form of rows that it began with, unless texts saw one another in it."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from tests.architectures.shapes import tiny_config
from tests.engine.conftest import make_model, make_tokenizer
from training.engine import preparation, selfcheck
from training.engine.errors import StaleCheckpointError
from training.engine.rundir import RunDirectory
from training.engine.train import train


@pytest.fixture
def make_hybrid_run(make_run, tmp_path: Path):
    """Make a run of a model whose packed rows leak, by less than rounding may change."""
    make_model(tiny_config("lfm2")).bfloat16().save_pretrained(tmp_path / "lfm2")
    make_tokenizer().save_pretrained(tmp_path / "lfm2")

    def make(name: str = "run", **settings: object) -> RunDirectory:
        asked = {"dtype": "bfloat16", "epochs": 2, "device": "cpu"} | settings
        return make_run(name, base_model=str(tmp_path / "lfm2"), **asked)

    return make


def interrupt(run: RunDirectory) -> None:
    """Take the end of a run away, as a kill after its last checkpoint would."""
    shutil.rmtree(run.adapter)
    (run.root / "done.json").unlink()


def make_old(run: RunDirectory) -> None:
    """Leave the checkpoints as former versions wrote them, which did not name the form of rows."""
    for path in run.checkpoints.glob("*.json"):
        description = json.loads(path.read_text())
        description["fingerprint"].pop(preparation.ROWS, None)
        path.write_text(json.dumps(description))


def weights(run: RunDirectory) -> bytes:
    return (run.adapter / "adapter_model.safetensors").read_bytes()


def test_a_run_begun_in_rows_that_leak_is_not_resumed(
    make_hybrid_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_hybrid_run()
    with monkeypatch.context() as former:
        for tolerance in ("_LEAK", "_TOLERANCE"):  # it computed the shorter text first, into which less leaks
            former.setattr(selfcheck, tolerance, {torch.bfloat16: (math.inf, math.inf)})
        train(run)
    assert run.read_done()["train"]["rows"] == "packed"
    interrupt(run)
    for _ in range(2):
        with pytest.raises(
            StaleCheckpointError, match="another form of rows, in which texts saw one another;"
        ):
            train(run)
    shutil.rmtree(run.checkpoints)
    train(run)
    fresh = make_hybrid_run("fresh")
    train(fresh)
    assert weights(run) == weights(fresh)


def test_a_run_begun_in_rows_that_hold_is_resumed(make_hybrid_run) -> None:
    run = make_hybrid_run()
    train(run)
    before = weights(run)
    interrupt(run)
    train(run)
    assert weights(run) == before
    assert "Resumed from the checkpoint" in " ".join(run.read_done()["train"]["events"])


@pytest.mark.parametrize("packing", ["auto", "off"])
def test_a_former_run_whose_form_stays_is_resumed(make_run, make_hybrid_run, packing: str) -> None:
    """In float32, what leaks is more than rounding: former versions did not pack it either."""
    run = make_hybrid_run(dtype="float32") if packing == "auto" else make_run(epochs=2, packing="off")
    train(run)
    before = weights(run)
    assert run.read_done()["train"]["rows"] == "padded"
    interrupt(run)
    make_old(run)
    train(run)
    assert weights(run) == before


def test_packing_may_change_before_a_run_is_resumed(make_hybrid_run) -> None:
    run = make_hybrid_run(packing="off")
    train(run)
    interrupt(run)
    settings = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps(settings | {"packing": "auto"}))
    train(run)
    assert "Resumed from the checkpoint" in " ".join(run.read_done()["train"]["events"])
