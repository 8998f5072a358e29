"""Two processes under torchrun make the update of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.distributed.distributed_c10d import Backend, BackendConfig

from tests.engine.conftest import make_pairs, pair_lines, read_metrics
from training.engine.config import TrainConfig
from training.engine.data.packing import pack
from training.engine.errors import ConfigError
from training.engine.model.base import choose_device
from training.engine.optimize.distributed import Processes, backends
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.train import train


def torchrun(run: RunDirectory) -> None:
    """`torchrun --nproc-per-node 2 -m training.engine train RUN_DIR`, a start of its own for each run.

    A process group that is made twice in one start may find its first addresses again, and hang.
    """
    command = "torch.distributed.run --nproc-per-node 2 --standalone -m training.engine train"
    with subprocess.Popen(
        [sys.executable, "-m", *command.split(), str(run.root)],
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    ) as agent:
        try:
            assert agent.wait(timeout=75) == 0
        except subprocess.TimeoutExpired:
            agent.terminate()  # it tells its workers; killed, it would leave them waiting for each other
            raise


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("shard", [True, False], ids=["sharded", "whole"])
def test_two_processes_give_the_results_of_one(make_run, shard: bool) -> None:
    # 9 pairs in batches of 4 make rows by 3, 3 and 1, the held-out pairs 3: never as many for both processes.
    settings = {"epochs": 2, "learning_rate": 1e-3, "eval_steps": 2, "max_tokens": 50, "pairs": pair_lines(9)}
    one, two = make_run("one", **settings), make_run("two", **settings, shard=shard)
    for run in (one, two):
        write_jsonl(run.heldout, pair_lines(3, seed=5))
    train(one)
    torchrun(two)
    expected = safetensors.torch.load_file(one.adapter / "adapter_model.safetensors")
    found = safetensors.torch.load_file(two.adapter / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        torch.testing.assert_close(found[key], weight, atol=1e-5, rtol=1e-3, msg=key)
    for ours, theirs in zip(read_metrics(two), read_metrics(one), strict=True):
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    summary = two.read_done()["train"]
    assert summary["processes"] == 2
    after = one.read_done()["train"]["heldout"]["after"]
    assert summary["heldout"]["after"] == pytest.approx(after, abs=1e-4)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("count", range(1, 8))
def test_rows_count_once_and_forwards_are_equal_in_step(world: int, count: int) -> None:
    pairs = make_pairs(count)
    rows = [pack(pairs, [at]) for at in range(count)]
    for in_step in (False, True):
        dealt = [Processes(rank, world, in_step=in_step).mine(rows) for rank in range(world)]
        counting = sorted(row.pairs for mine in dealt for row, counts in mine if counts)
        assert counting == [row.pairs for row in rows]
        if in_step:
            assert {len(mine) for mine in dealt} == {-(-count // world)}
        else:
            assert all(counts for mine in dealt for _, counts in mine)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tensors_on_the_cpu_and_on_the_device_can_be_added_up(device: str) -> None:
    # Reference log-probabilities are summed on the CPU whatever the device, gradients on the device.
    carried = BackendConfig(Backend(backends(torch.device(device)))).get_device_backend_map()
    assert {"cpu", device} <= carried.keys()
    assert carried["cpu"] == "gloo"


def test_sharding_alone_is_refused(make_run) -> None:
    with pytest.raises(ConfigError, match="shard needs several processes"):
        train(make_run(shard=True))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig.from_dict({"base_model": "m"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for rank in range(2):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert choose_device(config) == torch.device("cuda", rank)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="PyTorch finds 2 here: start torchrun with --nproc-per-node 2"):
        choose_device(config)
