"""A run that does not fit into memory goes on in shorter rows, and says so; one that cannot says what to do."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.conftest import pair_lines
from training.engine.data.packing import PairRow
from training.engine.errors import MemoryShortError
from training.engine.model.logps import Scorer
from training.engine.rundir import write_jsonl
from training.engine.train import train


def test_short_memory_makes_shorter_rows_and_the_same_adapter(
    make_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = make_run("whole", epochs=2), make_run("short", epochs=2)
    for one in (whole, run):
        write_jsonl(one.heldout, pair_lines(5, seed=5))
    train(whole)
    real, rows = Scorer.token_logps, []

    def short_of_memory(scorer: Scorer, row: PairRow) -> torch.Tensor:
        rows.append(row.tokens)
        if row.tokens > 60:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(scorer, row)

    monkeypatch.setattr(Scorer, "token_logps", short_of_memory)
    train(run)
    assert max(rows) > 60
    assert run.read_done()["train"]["events"][0].startswith("Memory was short: rows hold 1024 tokens")
    ours, theirs = (load_file(one.adapter / "adapter_model.safetensors") for one in (run, whole))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("recomputes", "remedy"),
    [(False, "set gradient_checkpointing and start again, or lower max_length"), (True, "lower max_length")],
)
def test_memory_too_short_for_one_pair_is_told(
    make_run, monkeypatch: pytest.MonkeyPatch, recomputes: bool, remedy: str
) -> None:
    def short_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("training.engine.train.backward", short_of_memory)
    sentence = (
        r"^Out of memory: not even the longest pair, of \d+ tokens, fits beside the model; "
        rf"{remedy} and remove the checkpoints, to start over\.$"
    )
    with pytest.raises(MemoryShortError, match=sentence):
        train(make_run(gradient_checkpointing=recomputes))


def test_memory_of_the_parent_process_is_not_counted() -> None:
    child = "from training.engine.optimize.memory import own_peak; print(own_peak())"
    parent = f"import subprocess, sys; held = b'1' * (400 << 20); subprocess.run([sys.executable, '-c', {child!r}])"
    told = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(told.stdout) < 200 << 20
