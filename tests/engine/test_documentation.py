"""The example of docs/engine.md works as it is printed."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from training.engine.__main__ import main
from training.engine.rundir import RunDirectory, read_jsonl

ROOT = Path(__file__).parents[2]
COMMAND = "python -m training.engine "


def test_the_example_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell writes the files. Its commands run in this process, which has PyTorch already."""
    printed = re.search(r"```sh\n(.*?)```", (ROOT / "docs/engine.md").read_text(), re.DOTALL)
    assert printed is not None
    lines = printed[1].splitlines()
    commands = [shlex.split(line, comments=True)[3:] for line in lines if line.startswith(COMMAND)]
    assert [command[0] for command in commands] == ["train", "score", "sample"]
    (tmp_path / "training").symlink_to(ROOT / "training")
    monkeypatch.chdir(tmp_path)
    written = "\n".join(line for line in lines if not line.startswith(COMMAND))
    subprocess.run(["sh", "-e", "-c", written], check=True)
    for command in commands:
        assert main(command) == 0
    run = RunDirectory(tmp_path / "run")
    assert run.read_done().keys() == {"train", "score", "sample"}
    assert len(list(read_jsonl(run.samples))) == 2
