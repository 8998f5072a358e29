"""Words of errors, notices and forms in Python are marked for translation."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [path for path in sorted((ROOT / "annotate").rglob("*.py")) if "migrations" not in path.parts]
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
# Errors whose first argument reaches a page or an answer of the API.
ERRORS = {
    "RefusalError",
    "RowError",
    "StorageError",
    "JSONError",
    "ValidationError",
    "PermissionDenied",
    "Http404",
    "NotFound",
    "ParseError",
    "AuthenticationFailed",
}
# Methods whose last argument is shown: of `messages`, and of a form.
NOTICES = {"success", "info", "warning", "error", "add_message", "add_error"}
KEYWORDS = {"label", "help_text", "empty_label", "violation_error_message"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_marked_for_translation(path: Path) -> None:
    assert not list(unmarked(path.read_text()))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('RefusalError(_("No. %(name)s") % {"name": name}, "field")', []),
        ('ValidationError({"field": [_("No.")]})', []),
        ('messages.info(request, text)\nlog.info("Done")', []),
        ('RefusalError("No.", "field")', ["No."]),
        ('raise RefusalError(f"{name} is gone.") from error', [" is gone."]),
        ('ValidationError({"field": ["No."]})', ["No."]),
        ('messages.error(request, "No." if wrong else _("Yes."))', ["No."]),
        ('form.add_error(None, "No.")', ["No."]),
        ('forms.CharField(label="Name")', ["Name"]),
    ],
)
def test_an_unmarked_word_is_found(source: str, words: list[str]) -> None:
    assert list(unmarked(source)) == words


def test_the_explanations_of_options_are_marked() -> None:
    """The form of a round shows them. The engine, which knows no Django, marks them by `primitives.text.marked`."""
    sources = [ast.parse(path.read_text()) for path in (ROOT / "training/engine/config").glob("*.py")]
    calls = [node for source in sources for node in ast.walk(source) if isinstance(node, ast.Call)]
    texts = [call.args[1] for call in calls if ast.unparse(call.func) == "option"]
    assert len(texts) > 50
    assert [ast.unparse(text) for text in texts if not ast.unparse(text).startswith("_(")] == []


def unmarked(source: str) -> Iterator[str]:
    """Yield the words that users read and no function marks."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            for argument in spoken(call):
                yield from words(argument)


def spoken(call: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call that users read."""
    name = name_of(call.func)
    if name in ERRORS:
        yield from call.args[:1]
    is_notice = isinstance(call.func, ast.Attribute) and name in NOTICES
    if is_notice and (name == "add_error" or name_of(call.func.value) == "messages"):
        yield from call.args[-1:]
    yield from (keyword.value for keyword in call.keywords if keyword.arg in KEYWORDS)


def words(node: ast.AST) -> Iterator[str]:
    """Yield the texts in an expression that are neither marked nor keys."""
    parts: list[ast.AST] = []
    match node:
        case ast.Constant(value=str(text)):
            if any(letter.isalpha() for letter in text):
                yield text
            return
        case ast.Call(func=function):  # whatever another function is given is in its own hands
            parts = [] if name_of(function) in MARKS else [function]
        case ast.Dict(values=parts):
            pass
        case ast.BinOp(op=ast.Mod(), left=left):
            parts = [left]
        case ast.Subscript(value=value):
            parts = [value]
        case ast.Compare():
            return
        case _:
            parts = list(ast.iter_child_nodes(node))
    for part in parts:
        yield from words(part)


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
