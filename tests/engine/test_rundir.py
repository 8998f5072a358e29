"""Files appear whole, lines are named when they are broken, and nothing heavy is imported to write them."""

import contextlib
import errno
import json
import math
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, DataError, StorageError
from training.engine.identity import digest
from training.engine.optimize import checkpoints
from training.engine.records import read_pairs, read_prompts
from training.engine.rundir import (
    Log,
    RunDirectory,
    read_jsonl,
    storing,
    whole_directory,
    write_json,
    write_jsonl,
    write_whole,
)

GOOD = {"id": 1, "prompt": "a", "chosen": "b", "rejected": "c"}


def pairs_of(tmp_path, *lines: object) -> list:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return read_pairs(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1', r"^pairs\.jsonl line 3 is not valid JSON"),
        ("[]", r"^pairs\.jsonl line 3 is not a JSON object\.$"),
        (GOOD, r"^pairs\.jsonl line 3 repeats the id '1' of line 1\.$"),
        (GOOD | {"id": None}, r"line 3: id must be a string or a whole number"),
        (GOOD | {"id": 2, "prompt": 5}, r"line 3: prompt must be a string or a list of chat messages"),
        (
            GOOD | {"id": 2, "prompt": [{"role": "user"}]},
            r"line 3: prompt has a message whose content is not text",
        ),
        (
            GOOD | {"id": 2, "chosen": [{"role": "user", "content": "a"}]},
            r"line 3: chosen must be text, one assistant message, or the whole chat",
        ),
        (GOOD | {"id": 2, "chosen": "\ud83d"}, r"line 3: chosen holds half a character"),
        (
            GOOD | {"id": 2, "prompt": [{"role": "user", "content": "\ud83d"}]},
            r"line 3: prompt holds half a character",
        ),
        (GOOD | {"id": 2, "tools": [{"name": "\ud83d"}]}, r"line 3: tools holds half a character"),
        (GOOD | {"id": "\ud83d"}, r"line 3: id holds half a character"),
        ("[" * 100_000, r"line 3 is not valid JSON: its lists and objects are nested too deeply\.$"),
        ('{"id": ' + "1" * 5000, r"line 3 is not valid JSON: it holds a number of too many digits\.$"),
        (GOOD | {"id": 2, "weight": 10**400}, r"line 3: weight must be a number, not 1[0]{96}\.\.\.\.$"),
        (GOOD | {"id": 2, "label": "x" * 9000}, r"line 3: label must be a number, not .{100}\.$"),
        (GOOD | {"id": 2, "label": 1.2}, r"line 3: label must be from 0 to 1, not 1\.2"),
        (GOOD | {"id": 2, "label": "yes"}, r"line 3: label must be a number, not 'yes'"),
        (GOOD | {"id": 2, "margin": -1}, r"line 3: margin must be 0 or more, not -1"),
        (GOOD | {"id": 2, "weight": float("inf")}, r"line 3: weight must be a number, not inf"),
        (
            GOOD | {"id": 2, "chosen_finish_reason": "eos"},
            r'line 3: chosen_finish_reason must be "stop" or "length"',
        ),
        (
            GOOD | {"id": 2, "rejected_token_ids": [1, -2]},
            r"line 3: rejected_token_ids must be a list of token ids",
        ),
    ],
)
def test_a_broken_line_is_named_by_number(tmp_path, line: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pairs_of(tmp_path, GOOD, "", line)


def test_no_depth_of_nesting_is_a_traceback(tmp_path) -> None:
    """Reading, checking and writing JSON run out of the stack at different depths."""
    run = RunDirectory(tmp_path)
    for depth in range(900, 1_000):
        nested = "[" * depth + "]" * depth
        with pytest.raises(DataError, match=r"prompt|nested too deeply"):
            pairs_of(tmp_path, f'{{"id": 2, "prompt": {nested}, "chosen": "b", "rejected": "c"}}')
        run.config_file.write_text(f'{{"chat_template_kwargs": {{"a": {nested}}}}}')
        with contextlib.suppress(ConfigError):
            run.read_config()


def test_blank_lines_and_provenance_are_passed_over(tmp_path) -> None:
    (pair,) = pairs_of(tmp_path, "", GOOD | {"annotator": "ada"}, "  ")
    assert (pair.id, pair.label, pair.margin, pair.weight) == ("1", 1.0, 0.0, 1.0)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"prompts\.jsonl does not exist"):
        list(read_prompts(tmp_path / "prompts.jsonl"))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.json"
    write_json(path, {"old": True})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"The disk is full: .*f\.json could not be written"):
        write_whole(path, b"new")
    assert json.loads(path.read_text()) == {"old": True}
    assert [file.name for file in tmp_path.iterdir()] == ["f.json"]


def test_a_full_disk_is_told_when_safetensors_finds_it(tmp_path) -> None:
    told = r"^The disk is full: .*merged could not be written"
    with pytest.raises(StorageError, match=told), storing(tmp_path / "merged"):
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), storing(tmp_path / "merged"):
        raise SafetensorError("Error while deserializing header")


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path) -> None:
    with pytest.raises(StorageError, match=r"could not be written: No such file or directory"):
        write_whole(tmp_path / "missing" / "f", b"x")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path, make) -> None:
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    left = [tmp_path / ".adapter.part", run.checkpoints / ".step-00000002.safetensors.part"]
    for part in left:
        make(part)
    if make is Path.mkdir:
        (tmp_path / ".adapter.part" / "stale").touch()
    with run.locked():
        assert not any(part.exists() for part in left)


def test_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target, aside = tmp_path / "adapter", tmp_path / ".adapter.part"
    target.mkdir()
    (target / "old").touch()

    def fill_half(folder: Path) -> None:
        (folder / "half").touch()
        write_whole(folder / "missing" / "f", b"")

    with pytest.raises(StorageError), whole_directory(target) as new:
        fill_half(new)
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter", "old"]
    aside.mkdir()
    (aside / "stale").touch()
    with whole_directory(target) as new:
        (new / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter", "new"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "adapter"
    with pytest.raises(StorageError, match=r"adapter could not be written: "), whole_directory(below):
        pass
    with pytest.raises(StorageError, match=r"file could not be written: File exists"):
        checkpoints.save(tmp_path / "file", checkpoints.Position(1, 0, 0, 0), {}, {})
    with pytest.raises(StorageError, match=r"could not be written: "):
        RunDirectory(below).write_config(TrainConfig(base_model="m"))


def test_unwritable_lock_leaves_the_directory_usable(
    tmp_path: Path,
) -> None:
    run = RunDirectory(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # from here on no byte can be written to a file
    try:
        with pytest.raises(StorageError, match=r"could not be written: File too large"), run.locked():
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with run.locked():
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()} {socket.gethostname()}"


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        list(read_jsonl(tmp_path))


def test_non_finite_numbers_are_null_in_every_file(tmp_path: Path) -> None:
    broken = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, "NaN")}], "d": None, "e": True}
    mended = {"a": None, "b": [1.5, None, {"c": [None, "NaN"]}], "d": None, "e": True}
    write_json(tmp_path / "one", broken)
    write_jsonl(tmp_path / "many", [broken])
    with Log(tmp_path / "log") as log:
        log.append(broken)
    for name in ("one", "many", "log"):
        assert json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail) == mended


def test_jsonl_survives_a_round_trip(tmp_path) -> None:
    rows = [{"text": "今日は\n🎉", "n": 1}, {"text": "", "n": 2}]
    write_jsonl(tmp_path / "f.jsonl", rows)
    assert [row for _, row in read_jsonl(tmp_path / "f.jsonl")] == rows


def test_a_log_is_cut_back_to_where_a_checkpoint_stood(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.append({"step": 1})
        size = log.sync()
        log.append({"step": 2})
    with Log(path, size) as log:
        log.append({"step": 3})
    assert [row["step"] for _, row in read_jsonl(path)] == [1, 3]
    with pytest.raises(StorageError, match="shorter than the checkpoint"):
        Log(path, 10_000)


def test_a_log_is_visible_line_by_line_while_it_is_written(tmp_path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        for step in range(3):
            log.append({"step": step})
            assert len(list(read_jsonl(tmp_path / "log.jsonl"))) == step + 1


def test_each_verb_keeps_its_own_entry_in_done(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    write_jsonl(run.pairs, [GOOD])
    run.finish("train", {"steps": 3}, run.hashes([run.pairs]), [])
    run.finish("score", {"pairs": 1}, run.hashes([run.pairs, run.heldout]), [])
    done = run.read_done()
    assert done["train"]["steps"] == 3
    assert done["score"]["inputs"] == {"pairs.jsonl": digest(run.pairs)}


def test_digest_of_a_large_file_sees_size_start_and_blocks(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.engine.identity._WHOLE", 1 << 20)
    path = tmp_path / "weights"
    content = bytearray(4 << 20)
    seen = set()
    for place in (None, 5, len(content) - 1, len(content) // 2):
        if place is not None:
            content[place] ^= 1
        path.write_bytes(content)
        seen.add(digest(path))
    path.write_bytes(content + b"\0")
    seen.add(digest(path))
    assert len(seen) == 5


@pytest.mark.parametrize(
    "modules",
    ["training.engine.config, training.engine.rundir, training.engine.records", "training.engine.__main__"],
)
def test_run_directories_and_help_import_nothing_heavy(modules: str) -> None:
    heavy = {"torch", "transformers", "peft", "numpy", "django", "celery"}
    code = f"import sys, {modules}; print({heavy!r} & set(sys.modules) or 'light')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "light"


@pytest.mark.parametrize("entry", [[1], {"inputs": [1]}, {"outputs": 3}, None])
def test_what_is_no_summary_in_done_is_passed_over(tmp_path: Path, entry: object) -> None:
    run = RunDirectory(tmp_path)
    write_json(run.done, {"train": entry, "score": {"pairs": 2}})
    assert run.read_done() == {"score": {"pairs": 2}}
    assert not run.has_done("train")


@pytest.mark.parametrize("content", ["[1]", "null", '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_done_that_is_no_object_holds_no_summary(tmp_path: Path, content: str) -> None:
    (tmp_path / "done.json").write_text(content)
    assert RunDirectory(tmp_path).read_done() == {}


def test_done_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "done.json").mkdir()
    with pytest.raises(DataError, match=r"done\.json cannot be read: Is a directory\.$"):
        RunDirectory(tmp_path).has_done("train")
