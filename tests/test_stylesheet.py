"""No rule without a use: each class, id and property of the stylesheet is named by a page, a script or the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pygments.token import STANDARD_TYPES

ROOT = Path(__file__).parent.parent
STYLES = re.sub(r"/\*.*?\*/", "", (ROOT / "static" / "whetstone.css").read_text(), flags=re.S)
NAME = r"[A-Za-z_][\w-]*"


def test_each_class_and_id_is_used() -> None:
    selectors = re.sub(r"\{[^{}]*\}", " ", STYLES)
    names = set(re.findall(rf"[.#]({NAME})", selectors))
    assert sorted(names - named_in_templates() - named_in_scripts() - named_in_code() - by_pygments()) == []


def test_each_custom_property_is_used() -> None:
    declared = set(re.findall(rf"[{{;\s](--{NAME})\s*:", STYLES))
    used = set(re.findall(rf"var\((--{NAME})\)", STYLES))
    assert sorted(declared ^ used) == []


@cache
def named_in_templates() -> set[str]:
    attributes = [
        value
        for path in (ROOT / "templates").rglob("*.html")
        for value in re.findall(r"""\b(?:class|id)=("(?:\{%.*?%\}|[^"])*")""", path.read_text())
    ]
    blocks = [
        value
        for path in (ROOT / "templates").rglob("*.html")
        for value in re.findall(r"\{% block \w+_class %\}(.*?)\{% endblock %\}", path.read_text())
    ]
    return words(attributes + blocks)


@cache
def named_in_scripts() -> set[str]:
    strings = [
        value
        for path in (ROOT / "static").rglob("*.js")
        if path.parent.name != "vendor"
        for value in re.findall(r"""["'`](.*?)["'`]""", path.read_text())
    ]
    return words(strings) | {"htmx-request"}  # htmx's own


@cache
def named_in_code() -> set[str]:
    """Classes in pieces of HTML, and the words that template tags and views may write as one, as a badge's colour."""
    pieces, single = [], set()
    for path in code():
        strings = constants(ast.parse(path.read_text()))
        for value in strings:
            pieces += re.findall(r'class="([^"]*)"', value)
            if {"templatetags", "views"} & set(path.parts) and re.fullmatch(NAME, value):
                single.add(value)
    return words(pieces) | single


def code() -> Iterator[Path]:
    for folder in ("annotate", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            if not {"migrations", "engine"} & set(path.parts):
                yield path


def constants(tree: ast.AST) -> Iterator[str]:
    return (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def by_pygments() -> set[str]:
    return set(STANDARD_TYPES.values())


def words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(NAME, text)}
