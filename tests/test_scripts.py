"""The site's scripts without a browser: their own tests, and their names in production."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage

from config.static_files import StaticFilesStorage

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "static").rglob("*.js") if path.parent.name != "vendor")
TESTS = sorted((ROOT / "tests" / "scripts").glob("*.test.mjs"))
OLDEST_NODE = (20, 19)  # the first that recognizes modules in .js files


def test_scripts_pass_their_own_tests() -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("Node.js is not installed: tests/scripts run where it is.")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in version.lstrip("v").split(".")[:2]) < OLDEST_NODE:
        pytest.skip(f"Node.js {version.strip()} is too old for tests/scripts: they need 20.19 or newer.")
    command = [node, "--no-warnings", "--test", "--test-reporter=spec", *map(str, TESTS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_imports_name_the_hashed_files(tmp_path: Path) -> None:
    """A module that is fetched under two names would run twice."""
    shutil.copytree(ROOT / "static", tmp_path, dirs_exist_ok=True)
    names = [str(path.relative_to(ROOT / "static")) for path in SCRIPTS]
    source = FileSystemStorage(tmp_path)
    storage = StaticFilesStorage(tmp_path, "/static/")
    list(storage.post_process({name: (source, name) for name in names}))
    hashed = {tmp_path / storage.hashed_files[name] for name in names}
    imports = [
        (path.parent / found).resolve()
        for path in hashed
        for found in re.findall(r'^import .* from "(.+)";$', path.read_text(), re.M)
    ]
    assert imports
    assert set(imports) <= hashed


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_take_their_words_from_the_page(script: Path) -> None:
    """Only templates are translated."""
    spoken = r"""(?:notify\(|confirm\(|announce\(|textContent = )\s*["'`][^"'`]*[A-Za-z]{2,}(?![^"'`]*\})"""
    assert not re.findall(spoken, script.read_text())
