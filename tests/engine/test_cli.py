"""The command line teaches, and every failure is one sentence with an exit code of its own."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.engine.conftest import pair_lines
from training.engine import errors
from training.engine.__main__ import _loading, main
from training.engine.config import explain
from training.engine.rundir import read_jsonl, write_jsonl


def help_of(*arguments: str, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_teaches_files_options_and_exit_codes(capsys) -> None:
    overview = help_of(capsys=capsys)
    for word in ("pairs.jsonl", "metrics.jsonl", "adapter/", "done.json", "75", "disk is full"):
        assert word in overview
    train = help_of("train", capsys=capsys)
    assert all(f"  {name} (" in train for name, *_ in explain())
    assert "torchrun" in train
    assert "sampling.temperature" in help_of("sample", capsys=capsys)


@pytest.mark.parametrize("arguments", [[], ["trane", "x"], ["train"], ["train", "x", "--fast"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_every_kind_of_failure_has_an_exit_code_of_its_own() -> None:
    kinds = errors.EngineError.__subclasses__()
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2} & set(codes)


@pytest.mark.parametrize(
    ("damage", "code", "sentence"),
    [
        (lambda run: run.config_file.unlink(), 3, "config.json does not exist."),
        (lambda run: run.config_file.write_text('{"base_model": "m", "bta": 1}'), 3, "Did you mean beta?"),
        (lambda run: run.pairs.unlink(), 4, "pairs.jsonl does not exist."),
        (lambda run: run.pairs.write_text("{}\n{broken"), 4, "pairs.jsonl line 1: id must be"),
        (
            lambda run: run.pairs.write_text('{"id": 1, "prompt": "a", "chosen": "b", "rejected": "c"}\n{'),
            4,
            "line 2",
        ),
        (
            lambda run: run.config_file.write_text('{"base_model": "/nowhere"}'),
            5,
            "base_model /nowhere does not exist",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["train", "score"])
def test_a_failure_is_one_sentence_and_no_traceback(make_run, capsys, verb, damage, code, sentence) -> None:
    run = make_run()
    damage(run)
    assert main([verb, str(run.root)]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert sentence in told
    assert told.count("\n") == 1
    assert "Traceback" not in told


def test_running_out_of_memory_is_told_with_the_remedy(
    make_run, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99999999999 bytes."
        )

    monkeypatch.setattr("training.engine.train.backward", no_room)
    assert main(["train", str(make_run().root)]) == 9
    assert "set gradient_checkpointing and start again" in capsys.readouterr().err


def test_ctrl_c_ends_sampling_with_nothing_half_written(make_run, children) -> None:
    run = make_run(sampling={"max_new_tokens": 64})
    write_jsonl(run.prompts, [{"id": str(number), "prompt": "the film"} for number in range(3000)])
    told = run.root / "told.txt"
    child = children.Process(target=run_command, args=(["sample", str(run.root)], told))
    child.start()
    deadline = time.monotonic() + 60
    while not (run.progress_file.exists() and "sampling" in run.progress_file.read_text()):
        assert child.is_alive(), told.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGINT)
    child.join(60)
    assert child.exitcode == 130
    assert told.read_text() == "Stopped; what was begun was not written.\n"
    assert not run.samples.exists()
    assert not list(run.root.glob(".*.part"))


def run_command(arguments: list[str], told: Path) -> None:
    with told.open("w") as sys.stderr:
        code = main(arguments)
    sys.exit(code)


def test_score_takes_another_file_of_pairs(make_run) -> None:
    run = make_run()
    other = run.root / "other.jsonl"
    write_jsonl(other, pair_lines(3, seed=9))
    assert main(["score", str(run.root), "--pairs", str(other)]) == 0
    assert [row["id"] for _, row in read_jsonl(run.scores)] == ["0", "1", "2"]
    inputs = run.read_done()["score"]["inputs"]
    assert {name for name in inputs if not name.startswith("base_model/")} == {"config.json", "other.jsonl"}


def test_the_garbage_collector_works_again_after_loading(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")  # as at the start of a command
    with pytest.raises(ImportError, match="False"), _loading():
        raise ImportError(str(gc.isenabled()))
    assert gc.isenabled()
