"""A run that is killed, stopped, or finds a torn checkpoint or a full disk ends as if nothing had been."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.conftest import pair_lines, read_metrics
from training.engine.__main__ import main
from training.engine.errors import StaleCheckpointError, StorageError
from training.engine.optimize import checkpoints
from training.engine.optimize.distributed import Processes
from training.engine.preparation import read_sources
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.train import train

STEPS = 12  # of ten pairs in batches of four, four epochs
SETTINGS = {
    "epochs": 4,
    "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
    "warmup_steps": 3,
    "eval_steps": 5,
    "device": "cpu",
}
ENDLESS = 600.0  # seconds of a step that no test waits for


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """End children that a failing test leaves: Python would wait for them at its end."""
    yield
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def child_main(root: str, pause: float, before: str, first: int) -> None:
    """Train in a process of its own, with a pause in each step from `first` on, or before evaluations."""
    import torch

    from training.engine import train

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    name = "backward" if before == "step" else "held_out_figures"
    original = getattr(train, name)
    run = RunDirectory(root)

    def slow(*arguments):
        if lines(run) >= first:
            time.sleep(pause)
        return original(*arguments)

    setattr(train, name, slow)
    raise SystemExit(main(["train", root]))


def start(children, run: RunDirectory, pause: float = 0.0, before: str = "step", first: int = 0):
    child = children.Process(target=child_main, args=(str(run.root), pause, before, first))
    child.start()
    return child


def lines(run: RunDirectory) -> int:
    return run.metrics.read_bytes().count(b"\n") if run.metrics.exists() else 0


def wait_for_step(run: RunDirectory, child, step: int) -> None:
    while lines(run) < step:
        assert child.is_alive(), "the child ended before it was killed"
        time.sleep(0.005)


def without_clock(run: RunDirectory) -> list[dict]:
    """metrics.jsonl but for what a stopwatch measured."""
    rows = read_metrics(run)
    assert all(row.pop("pairs_per_second") > 0 for row in rows)
    return rows


def outcome(run: RunDirectory) -> tuple:
    adapter = {path.name: path.read_bytes() for path in sorted(run.adapter.iterdir())}
    return adapter, without_clock(run), run.evals.read_bytes()


@pytest.fixture
def whole(make_run) -> RunDirectory:
    run = make_run("whole", **SETTINGS)
    write_jsonl(run.heldout, pair_lines(3, seed=5))
    train(run)
    return run


def again(make_run, name: str) -> RunDirectory:
    run = make_run(name, **SETTINGS)
    write_jsonl(run.heldout, pair_lines(3, seed=5))
    return run


def test_killed_run_ends_byte_for_byte_as_an_uninterrupted_one(make_run, whole, children) -> None:
    run = again(make_run, "killed")
    for _ in range(3):
        step = random.randrange(1, STEPS)
        child = start(children, run, pause=0.05)
        with contextlib.suppress(AssertionError):  # resumed beyond `step` it may end first
            wait_for_step(run, child, step)
        child.kill()
        child.join()
        assert not run.adapter.exists() or child.exitcode == 0
    child = start(children, run)
    child.join()
    assert child.exitcode == 0
    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stop_inside_a_step_writes_a_checkpoint_at_once(make_run, whole, children, signum) -> None:
    run = again(make_run, "stopped")
    child = start(children, run, pause=ENDLESS, first=3)
    wait_for_step(run, child, 3)
    os.kill(child.pid, signum)
    child.join(timeout=30)
    assert child.exitcode == 75
    position, _, _ = checkpoints.load_latest(run.checkpoints, {})
    assert position.step == lines(run) == 3  # checkpoint_steps is 2: this one was written by the stop
    settings = json.loads(run.config_file.read_text())
    settings["sampling"] |= {"max_tokens": 900, "batch_size": 3}  # limits that may change in between
    run.config_file.write_text(json.dumps(settings))
    train(run)
    assert outcome(run) == outcome(whole)


def test_a_stop_within_an_evaluation_loses_no_line_of_evals(make_run, whole, children) -> None:
    run = again(make_run, "evaluating")
    child = start(children, run, pause=ENDLESS, before="evaluation", first=5)
    wait_for_step(run, child, 5)  # eval_steps is 5: the evaluation has begun
    os.kill(child.pid, signal.SIGTERM)
    child.join(timeout=30)
    assert child.exitcode == 75
    assert lines(run) == 5
    assert run.evals.read_bytes() == b""
    train(run)
    assert outcome(run) == outcome(whole)


def test_a_torn_checkpoint_falls_back_to_the_one_before_it(make_run, whole, children) -> None:
    run = again(make_run, "torn")
    child = start(children, run, pause=0.05)
    wait_for_step(run, child, 7)
    child.kill()
    child.join()
    newest = sorted(run.checkpoints.glob("*.safetensors"))[-1]
    with newest.open("r+b") as file:
        file.truncate(newest.stat().st_size // 2)
    train(run)
    assert f"Checkpoint {newest.stem} is torn" in " ".join(run.read_done()["train"]["events"])
    assert outcome(run) == outcome(whole)


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
ODD: dict[str, dict[str, object]] = {
    "deep": {},
    "a folder": {},
    "a text for a step": {"step": "4"},
    "a list for a fingerprint": {"fingerprint": ["a"]},
}


@pytest.mark.parametrize("damage", ["flipped", "missing", "no description", "a list", *ODD])
def test_a_damaged_checkpoint_is_never_loaded(tmp_path: Path, damage: str) -> None:
    import torch

    for step in (2, 4):
        position = checkpoints.Position(step, 0, 0, 0)
        checkpoints.save(tmp_path / "c", position, {"w": torch.full((50,), float(step))}, {})
    newest = tmp_path / "c" / "step-00000004.safetensors"
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    if damage == "flipped":
        newest.write_bytes(content)
    elif damage == "missing":
        newest.unlink()
    elif damage == "a list":
        newest.with_suffix(".json").write_text("[1]")
    elif damage == "a folder":
        newest.with_suffix(".json").unlink()
        newest.with_suffix(".json").mkdir()
    elif damage in ODD:
        told = json.loads(newest.with_suffix(".json").read_text()) | ODD[damage]
        newest.with_suffix(".json").write_text(DEEP if damage == "deep" else json.dumps(told))
    else:
        newest.with_suffix(".json").write_text('{"step": 4')
    position, tensors, torn = checkpoints.load_latest(tmp_path / "c", {})
    assert (position.step, float(tensors["w"][0]), torn) == (2, 2.0, ["step-00000004"])


def test_checkpoints_of_other_settings_or_pairs_are_refused(make_run, children) -> None:
    settings = SETTINGS | {"lora": {"r": 4, "alpha": 8}}  # masks of dropout depend on the rows
    whole, run = (make_run(name, **settings) for name in ("whole", "stale"))
    for one in (whole, run):
        write_jsonl(one.heldout, pair_lines(3, seed=5))
    train(whole)
    child = start(children, run, pause=0.05)
    wait_for_step(run, child, 3)
    child.kill()
    child.join()
    kept = run.config_file.read_text()
    run.config_file.write_text(kept.replace('"beta": 0.1', '"beta": 0.2'))
    with pytest.raises(
        StaleCheckpointError, match=r"configuration \(beta was 0\.1, is 0\.2\);.*to start over"
    ):
        train(run)
    run.config_file.write_text(kept)
    write_jsonl(run.pairs, pair_lines(9))
    with pytest.raises(StaleCheckpointError, match=r"belong to another pairs\.jsonl and"):
        train(run)
    write_jsonl(run.pairs, pair_lines(10))
    for setting, value in (("checkpoint_steps", 7), ("max_tokens", 50), ("gradient_checkpointing", True)):
        kept = json.dumps(json.loads(kept) | {setting: value})
    run.config_file.write_text(kept)
    sampling = json.loads(kept)["sampling"] | {"max_tokens": 900, "batch_size": 3}
    run.config_file.write_text(json.dumps(json.loads(kept) | {"sampling": sampling}))
    train(run)  # what does not change the result does not matter
    assert "Resumed from the checkpoint" in run.read_done()["train"]["events"][0]
    ours, theirs = (load_file(one.adapter / "adapter_model.safetensors") for one in (run, whole))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-4)


def test_a_run_is_the_same_wherever_its_adapter_is(make_run, tmp_path: Path) -> None:
    found = []
    for place, content in (("here", b"w"), ("there", b"w"), ("other", b"v")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "adapter_model.safetensors").write_bytes(content)
        run = make_run("run", start_adapter=str(tmp_path / place))
        found.append(read_sources(run, run.read_config(), Processes()))
    here, there, other = found
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint["model"] != other.fingerprint["model"]
    folder, position = tmp_path / "checkpoints", checkpoints.Position(2, 0, 0, 0)
    before = here.fingerprint | here.earlier  # as runs wrote it when places of files counted
    checkpoints.save(folder, position, {"w": torch.zeros(1)}, before)
    assert checkpoints.load_latest(folder, here.fingerprint, here.earlier)[0] == position
    with pytest.raises(StaleCheckpointError, match="belong to another configuration;"):
        checkpoints.load_latest(folder, here.fingerprint, there.earlier)


def test_full_disk_is_one_sentence_and_the_run_resumes_later(
    make_run, whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = again(make_run, "full")
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"The disk is full: .* could not be written"):
            train(run)
    assert not list(run.root.rglob("*.part"))
    train(run)
    assert outcome(run) == outcome(whole)


def test_two_trainers_never_work_in_one_directory(make_run, children, capsys) -> None:
    run = again(make_run, "shared")
    child = start(children, run, pause=0.2)
    wait_for_step(run, child, 1)
    assert main(["train", str(run.root)]) == 6
    assert f"is in use by process {child.pid}" in capsys.readouterr().err
    child.kill()
    child.join()
    assert main(["train", str(run.root)]) == 0  # the dead one's lock went with it
