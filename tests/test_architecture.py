"""docs/architecture.md names every module of the tree, and its walk from a click to a gradient exists."""

import ast
import re
from pathlib import Path

import pytest
from django.conf import settings

PACKAGES = ["primitives", "config", "annotate", "training"]
PAGE = (settings.BASE_DIR / "docs" / "architecture.md").read_text()
WALK = re.findall(
    r"`((?:annotate|training)(?:\.\w+)+)`", PAGE.partition("## From a click")[2].partition("\n## ")[0]
)


def listed() -> list[str]:
    """Return the modules that the page names, as paths. Each has a line with words of its own."""
    found = []
    for part in PAGE.partition("## Modules")[2].split("\n### ")[1:]:
        folder = re.match(r"`(.+)/`", part)
        assert folder, f"Name a folder, as in `annotate/text/`: {part.splitlines()[0]}"
        found += [f"{folder[1]}/{name}" for name in re.findall(r"^- `(.+?)`: \S", part, re.MULTILINE)]
    return found


def tree() -> set[str]:
    files = [path for package in PACKAGES for path in (settings.BASE_DIR / package).rglob("*.py")]
    return {
        str(path.relative_to(settings.BASE_DIR))
        for path in files
        if path.name != "__init__.py" and "migrations" not in path.parts
    }


def test_every_module_has_one_line() -> None:
    named = listed()
    assert len(named) == len(set(named))
    assert sorted(tree() - set(named)) == [], "without a line in docs/architecture.md"
    assert sorted(set(named) - tree()) == [], "in docs/architecture.md, and not in the tree"


def test_no_package_is_a_drawer() -> None:
    folders = [str(Path(path).parent) for path in tree()]
    assert {folder for folder in folders if folders.count(folder) > 13} == set()


@pytest.mark.parametrize("name", WALK)
def test_each_step_of_the_walk_exists(name: str) -> None:
    # The source is read, as importing the engine would load PyTorch.
    parts = name.split(".")
    while not (path := settings.BASE_DIR.joinpath(*parts).with_suffix(".py")).exists():
        parts.pop()
        assert parts, f"{name} names no module"
    scope: list[ast.stmt] = ast.parse(path.read_text()).body
    for wanted in name.split(".")[len(parts) :]:
        definitions = [
            node for node in scope if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == wanted
        ]
        assert definitions, f"{wanted} is not in {path}"
        scope = definitions[0].body
    assert len(parts) < len(name.split(".")), f"{name} names a module alone"
