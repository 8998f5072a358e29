"""The example of docs/engine.md works as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from training.engine.rundir import RunDirectory, read_jsonl

ROOT = Path(__file__).parents[2]


def test_the_example_runs_as_printed(tmp_path: Path) -> None:
    printed = re.search(r"```sh\n(.*?)```", (ROOT / "docs/engine.md").read_text(), re.DOTALL)
    (tmp_path / "training").symlink_to(ROOT / "training")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(["sh", "-e", "-c", printed[1]], cwd=tmp_path, env=environment, check=True)
    run = RunDirectory(tmp_path / "run")
    assert run.read_done().keys() == {"train", "score", "sample"}
    assert len(list(read_jsonl(run.samples))) == 2
