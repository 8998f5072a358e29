"""The targets of `make gpu-check` are read from what its parts found."""

import os
import subprocess
from pathlib import Path

from benchmarks.gpu_check import ROOT, targets
from benchmarks.gpu_parts.exactness import pytest_command


def test_targets_say_what_was_found_and_whether_it_suffices() -> None:
    train = {
        "0.5b-hh": {"speed ratio": 2.4, "utilization": 0.5},
        "7b-hh": {"utilization": 0.41},
        "seconds": 9.0,
    }
    sample = {"0.5B": {"ours, no adapter": 900.0, "generate, no adapter": 100.0}, "problem": "late"}
    found = targets({"train": train, "sample": sample})
    assert found["times TRL's best"] == {"target": 2.0, "found": [2.4], "reached": True}
    assert found["utilization"] == {"target": 0.45, "found": [0.5, 0.41], "reached": False}
    assert found["times generate"] == {"target": 5.0, "found": [9.0], "reached": True}
    assert targets({}) == {}


def test_the_engines_tests_are_found_without_django(tmp_path: Path) -> None:
    """A machine with a GPU need not have it. A module in its place refuses to be imported."""
    (tmp_path / "django.py").write_text("raise ModuleNotFoundError('No module named django')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    files = ("test_cuda", "test_cuda_architectures", "test_architectures", "test_cli")
    command = [*pytest_command(*files), "--collect-only"]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(f"{file}.py" in ended.stdout for file in files)
