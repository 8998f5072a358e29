"""The words of code, pages and documentation: who acts has a name, and no phrase is a calque."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFUSED = re.compile(
    r"\b(somebody|nobody|anybody|whoever|anew)\b|\b(make|made|take|taken) again\b|\balso when\b",
    re.IGNORECASE,
)
CODE = [
    path
    for folder in ("annotate", "training", "primitives", "config")
    for path in (ROOT / folder).rglob("*.py")
]
PAGES = [
    *(ROOT / "templates").rglob("*.html"),
    *(ROOT / "static").glob("*.js"),
    *(ROOT / "static/desk").glob("*.js"),
]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"]


@pytest.mark.parametrize("paths", [CODE, PAGES, DOCUMENTS], ids=["code", "pages", "documents"])
def test_nothing_is_said_in_a_refused_phrase(paths: list[Path]) -> None:
    assert len(paths) > 5
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if REFUSED.search(line)
    ]
    assert found == []


def test_no_docstring_begins_with_a_question_word() -> None:
    opening = re.compile(r'"""(What|How|Whether|Which|Why|Who|Whoever|Where|Of)\b')
    ours = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*CODE, *ours]
        for match in opening.finditer(path.read_text())
    ]
    assert found == []


def test_no_comment_stands_behind_a_closing_bracket() -> None:
    """The formatter pushes a comment there when it wraps a line. It belongs above what it is about."""
    pushed = re.compile(r"^[ \t]*[\])}]+[:,]?[ \t]+#(?! fmt: skip| noqa| type: ignore)", re.MULTILINE)
    others = [path for folder in ("tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}: {match[0].strip()}"
        for path in [*CODE, *others]
        for match in pushed.finditer(path.read_text())
    ]
    assert found == []
