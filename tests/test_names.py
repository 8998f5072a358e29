"""The names of tests: the rule in plain words, and short enough to read in a list."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent
LONGEST = 60  # characters


def test_no_name_of_a_test_is_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in ROOT.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and len(node.name) > LONGEST
    ]
    assert long == []
