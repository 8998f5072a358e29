"""The site's scripts without a browser: their own tests, and their names in production."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage

from config.scripts import ScriptError, join_modules
from config.static_files import StaticFilesStorage

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "static").rglob("*.js") if path.parent.name != "vendor")
TESTS = sorted((ROOT / "tests" / "scripts").glob("*.test.mjs"))
OLDEST_NODE = (20, 19)  # the first that recognizes modules in .js files


def find_node() -> str | None:
    """Return the path of a Node.js that knows modules in .js files."""
    node = shutil.which("node")
    if not node:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return node if tuple(int(part) for part in version.lstrip("v").split(".")[:2]) >= OLDEST_NODE else None


def test_scripts_pass_their_own_tests() -> None:
    node = find_node()
    if not node:
        pytest.skip("tests/scripts run where Node.js 20.19 or newer is installed.")
    command = [node, "--no-warnings", "--test", "--test-reporter=spec", *map(str, TESTS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_production_serves_the_desk_as_one_script(tmp_path: Path) -> None:
    """A module that is fetched under two names would run twice."""
    shutil.copytree(ROOT / "static", tmp_path, dirs_exist_ok=True)
    names = [str(path.relative_to(ROOT / "static")) for path in SCRIPTS]
    source = FileSystemStorage(tmp_path)
    storage = StaticFilesStorage(tmp_path, "/static/")
    list(storage.post_process({name: (source, name) for name in names}))
    assert [name for name in storage.hashed_files if name.startswith("desk/")] == ["desk/desk.js"]
    assert len(list((tmp_path / "desk").glob("*.js"))) == 1
    script = tmp_path / storage.hashed_files["desk/desk.js"]
    imports = re.findall(r'^(?:import|export)\b.* from "(.+)";$', script.read_text(), re.M)
    assert [(script.parent / path).resolve() for path in imports] == [
        tmp_path / storage.hashed_files["whetstone.js"]
    ]
    if node := find_node():
        subprocess.run([node, "--check", "--input-type=module"], input=script.read_bytes(), check=True)


def test_joined_modules_run_once_imported_ones_first() -> None:
    modules = {
        "desk/desk.js": (
            'import { a } from "./a.js";\nimport {\n  b,\n} from "./b.js";\nimport { z } from "../z.js";\n\na(b, z);\n'
        ),
        "desk/a.js": 'import { b } from "./b.js";\n\nexport function a() {}\n',
        "desk/b.js": 'import { y } from "../z.js";\n\nexport const b = y;\n',
    }
    script = join_modules("desk/desk.js", modules.__getitem__)
    assert script.modules == ["desk/b.js", "desk/a.js", "desk/desk.js"]
    assert script.text == ('import { y, z } from "../z.js";\n\nconst b = y;\n\nfunction a() {}\n\na(b, z);\n')


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("const a = 1;", "'a' is also a name of desk/a.js"),
        ('import { gone } from "./a.js";', "desk/a.js does not export 'gone'"),
        ('import { a as other } from "./a.js";', "does not export 'a as other'"),
        ('import * as a from "./a.js";', "is not a form of import or export"),
        ("export default class {}", "is not a form of import or export"),
    ],
)
def test_modules_that_cannot_be_joined_are_refused(code: str, reason: str) -> None:
    modules = {
        "desk/desk.js": f'import {{ a }} from "./a.js";\n{code}\n',
        "desk/a.js": "export function a() {}\n",
    }
    with pytest.raises(ScriptError, match=reason):
        join_modules("desk/desk.js", modules.__getitem__)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_take_their_words_from_the_page(script: Path) -> None:
    """Only templates are translated."""
    spoken = r"""(?:notify\(|confirm\(|announce\(|textContent = )\s*["'`][^"'`]*[A-Za-z]{2,}(?![^"'`]*\})"""
    assert not re.findall(spoken, script.read_text())
