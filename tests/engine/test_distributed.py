"""Two processes under torchrun make the update of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.engine.conftest import pair_lines, read_metrics
from training.engine.errors import ConfigError
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.train import train


def torchrun(run: RunDirectory) -> None:
    """`torchrun --nproc-per-node 2 -m training.engine train RUN_DIR`, a start of its own for each run.

    A process group that is made twice in one start may find its first addresses again, and hang.
    """
    command = "torch.distributed.run --nproc-per-node 2 --standalone -m training.engine train"
    subprocess.run(
        [sys.executable, "-m", *command.split(), str(run.root)],
        check=True,
        timeout=170,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.timeout(180)
def test_two_processes_give_the_adapter_metrics_and_scores_of_one(make_run) -> None:
    settings = {"epochs": 2, "learning_rate": 1e-3, "eval_steps": 2}
    runs = {name: make_run(name, **settings) for name in ("one", "two")}
    runs["sharded"] = make_run("sharded", **settings, shard=True)
    for run in runs.values():
        write_jsonl(run.heldout, pair_lines(3, seed=5))
    train(runs["one"])
    torchrun(runs["two"])
    torchrun(runs["sharded"])
    expected = safetensors.torch.load_file(runs["one"].adapter / "adapter_model.safetensors")
    for name in ("two", "sharded"):
        found = safetensors.torch.load_file(runs[name].adapter / "adapter_model.safetensors")
        assert found.keys() == expected.keys()
        for key, weight in expected.items():
            torch.testing.assert_close(found[key], weight, atol=1e-5, rtol=1e-3, msg=f"{name} {key}")
        for ours, theirs in zip(read_metrics(runs[name]), read_metrics(runs["one"]), strict=True):
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        summary = runs[name].read_done()["train"]
        assert summary["processes"] == 2
        after = runs["one"].read_done()["train"]["heldout"]["after"]
        assert summary["heldout"]["after"] == pytest.approx(after, abs=1e-4)


def test_sharding_alone_is_refused(make_run) -> None:
    with pytest.raises(ConfigError, match="shard needs several processes"):
        train(make_run(shard=True))
