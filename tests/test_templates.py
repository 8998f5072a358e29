"""Templates have lines that can be read, and words that can be translated."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.template import engines
from django.template.base import Lexer, TokenType

FOLDER = Path(__file__).parent.parent / "templates"
TEMPLATES = sorted(FOLDER.rglob("*.html"))
LONGEST = 140
# Attributes that people see or hear; a data attribute with words is read by a script.
SPOKEN = re.compile(
    r"title|alt|placeholder|aria-label|aria-description|label|data-(label|confirm|copied|say-.*)"
)
NAMES = {"Whetstone", "A", "B"}  # the same in every language
ids = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))


@ids
def test_lines_fit_on_a_screen(path: Path) -> None:
    long = [number for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > LONGEST]
    assert not long


@ids
def test_texts_are_shortened_without_their_images(path: Path) -> None:
    """`excerpt` leaves the base64 of images out, which Django's own filters would print."""
    assert not re.search(r"\|(truncatechars|truncatewords)", path.read_text())


@ids
def test_templates_compile(path: Path) -> None:
    engines["django"].get_template(str(path.relative_to(FOLDER)))


@ids
def test_words_are_marked_for_translation(path: Path) -> None:
    assert not list(unmarked(path.read_text()))


COUNTED = "judgments|comparisons|pairs|prompts|rows|samples|completions|verdicts|annotators|members|days|lines|rounds"
BLOCK = re.compile(r"\{% blocktranslate([^%]*)%\}(.*?)\{% endblocktranslate %\}", re.DOTALL)


@ids
def test_counted_words_have_a_singular(path: Path) -> None:
    assert not list(without_singular(path.read_text()))


def test_a_counted_word_without_a_singular_is_found() -> None:
    many = "{{ count }} <b>pairs</b> {{ x }}"
    block = "{{% blocktranslate {} %}}{}{{% endblocktranslate %}}"
    assert not list(without_singular(block.format("count count=x", "{{ count }} pair{% plural %}" + many)))
    assert list(without_singular(block.format("with count=x", many))) == [many]


def without_singular(source: str) -> Iterator[str]:
    """Yield the texts that name a number of things and have one form alone."""
    for options, text in BLOCK.findall(source):
        if (
            re.search(rf"\}}\}}\s*(<\w+>)?(of its |new |more |other )?({COUNTED})\b", text)
            and " count " not in options
        ):
            yield text


def test_an_unmarked_word_is_found() -> None:
    assert not list(unmarked('<p title="{% translate "Look" %}">{# Why #}{{ x }} · 3</p>'))
    assert not list(unmarked("{% blocktranslate %}Look at {{ x }}{% endblocktranslate %}"))
    assert list(unmarked("<p>Look</p>")) == ["Look"]
    assert list(unmarked('<input placeholder="{{ x }} Look"{% if x %} disabled{% endif %}>')) == ["Look"]
    assert list(unmarked("{% if x %}Look{% endif %}")) == ["Look"]


def unmarked(source: str) -> Iterator[str]:
    """Yield the words that a page shows and no tag of the template translates."""
    reader = WordReader()
    reader.feed(without_tags(source))
    reader.close()
    for text in reader.texts:
        yield from (word for word in re.findall(r"[^\W\d_]+", text) if word not in NAMES)


def without_tags(source: str) -> str:
    """Replace by spaces what the template engine writes, what a blocktranslate holds, and names of classes."""
    kept, end = [], ""
    for token in Lexer(source).tokenize():
        is_text = token.token_type == TokenType.TEXT
        if token.token_type == TokenType.BLOCK:
            name, *arguments = token.contents.split()
            if name == "blocktranslate":
                end = "endblocktranslate"
            elif name == "block" and arguments[0].endswith("_class"):
                end = "endblock"
            elif name == end:
                end = ""
        kept.append(token.contents if is_text and not end else " ")
    return "".join(kept)


class WordReader(HTMLParser):
    """Collects the texts of a page, and the attributes that people see or hear."""

    CODE = {"pre", "code", "script", "style"}  # commands and samples of files

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.texts += [value for name, value in attrs if value and SPOKEN.fullmatch(name)]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in self.CODE:
            self.texts.append(data)
