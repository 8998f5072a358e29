"""Formatted text hides nothing: each character that is not syntax is on the page, in its order."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotate.text.rendering import render_markdown
from tests.annotate.text.html import text_of

# What shows as formatting, as `dialect.py` lists it.
SIGNS_OF_SYNTAX = re.compile(r"[*~#`\[\]\s]")
PIPE = re.compile(r"(?:\\\\)?\|")
DELIMITERS = re.compile(r"(?m)^[ \t]*[-:|][-:| \t]*$")  # the line below a table's head


def without_syntax(text: str) -> str:
    return PIPE.sub("", SIGNS_OF_SYNTAX.sub("", text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\nb"),
        ("/\\\nx", "/\\\nx"),
        ("run __init__ now", "run __init__ now"),
        ("a _word_ here", "a _word_ here"),
        (r"C:\*.txt", r"C:\*.txt"),
        (r"\\server\share", r"\\server\share"),
        (r"\$HOME", r"\$HOME"),
        (r"^\[a-z\]\.\*$", r"^\[a-z\]\.\*$"),
        ("&lt;b&gt; &amp; &copy;", "&lt;b&gt; &amp; &copy;"),
        (r"\(x\) and (x)", r"\(x\) and (x)"),
        ("$a*b*c$", "$a*b*c$"),
        ("f(a*b, c*d)", "f(a*b, c*d)"),
        ("def f(*args, **kwargs)", "def f(*args, **kwargs)"),
        ("> 3 items\n> more", "> 3 items\n> more"),
        ("1986. A year\n1986. Again", "1986. A year\n1986. Again"),
        ("+ plus", "+ plus"),
        ("Title\n===", "Title\n==="),
        ("* * *", "* * *"),
        ("# Use C #", "Use C #"),
        ("[a]: https://example.org\n[a]", "[a]: https://example.org\n[a]"),
        ("<https://example.org>", "<https://example.org>"),
        ("[x](https://example.org 'y')", "x(https://example.org 'y')"),
        ("~~~\nx\n~~~", "~~~\nx\n~~~"),
        ("```python title=1\nx = 1\n```", "python title=1\nx = 1"),
        ("|a|b|\n|-|-|\n|1|2|3|", "|a|b|\n|-|-|\n|1|2|3|"),
    ],
)
def test_what_is_not_syntax_is_shown(text: str, shown: str) -> None:
    assert "".join(text_of(render_markdown(text)).split()) == "".join(shown.split())


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Traceback:\n  File\n    y = 2", ["Traceback:", "  File", "    y = 2"]),
        ("if a:\n\n    b\n        c", ["if a:", "    b", "        c"]),
        ("   x\n y", ["   x", " y"]),
        ("\tx", ["    x"]),
        ("- a\n  b\n\n      c", ["-a", "b", "    c"]),
    ],
)
def test_lines_and_indentation_stay(text: str, lines: list[str]) -> None:
    assert [line for line in text_of(render_markdown(text)).split("\n") if line.strip()] == lines


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**bold** and *it*, ~~no~~", "<strong>bold</strong> and <em>it</em>, <s>no</s>"),
        ("这是**重点**内容", "<strong>重点</strong>"),
        ("### head", "<h5>head</h5>"),
        ("`code`", "<code>code</code>"),
        ("a<br>b<BR/>c", "a<br>b<br>c"),
        ("H<sub>2</sub>O, x<sup>a & b</sup>", "H<sub>2</sub>O, x<sup>a &amp; b</sup>"),
        ("- [x] done", '<span class="task">☑</span><p> done</p>'),
        ("1. [ ] to do", '<span class="task">☐</span><p> to do</p>'),
        ("So[^1].\n\n[^1]: Says *who*", "<p>So<sup>1</sup>.</p>\n<p><sup>1</sup>: Says <em>who</em></p>"),
        ("not [^a-z] nor [^1]", "not [^a-z] nor [^1]"),
        ("<b>x</b> <sub><i></sub>", "&lt;b&gt;x&lt;/b&gt; &lt;sub&gt;&lt;i&gt;&lt;/sub&gt;"),
        ("1. one", '<li dir="auto"><span class="marker">1.</span><p>one</p>'),
        ("| a |\n|---|\n| b\\|c |", "<td>b|c</td>"),
    ],
)
def test_syntax_is_shown_as_formatting(text: str, html: str) -> None:
    assert html in render_markdown(text)


@pytest.mark.parametrize(
    "formula",
    [
        "$x^2$",
        r"\(x_1 + y\)",
        r"\[ \frac{a}{b} \]",
        "$$\na\n- b\n$$",
        "\\begin{align*}\na*b*c\n\\end{align*}",
        r"\begin{equation} E = mc^2 \end{equation}",
        r"$\{a*b*c\}$",
        "$5x = 10$",
        "$1$",
        "$2x$",
    ],
)
def test_a_formula_is_left_whole_for_the_browser(formula: str) -> None:
    html = render_markdown(f"so\n{formula}\nfollows")
    assert re.findall('class="math">(.*?)</', html, re.DOTALL) == [formula]


@pytest.mark.parametrize(
    "text",
    [
        "$5 and $6",
        "from $5 to 6$ a day",
        "$5,000 or 6,000$ a day",
        "$HOME/bin:$PATH",
        r"^\[a-z\]$",
        "\\begin{tabular}{ll}\na\n\\end{tabular}",
        "\\begin{align}\na\n\\end{gather}",
        r"sed 's/\(a\)/b/'",
        "`$x$`",
        "a $ b $ c",
    ],
)
def test_prices_and_patterns_are_not_formulas(text: str) -> None:
    assert "math" not in render_markdown(text)


SIGNS = r"* ** _ __ ~~ ~ ` `` ``` # | |-| \ \| [ ] ( ) ]( < > --- === : &amp; & $ $$ \( \) \[ \] ![ . ; 0 a b1 word"
PIECES = [
    *SIGNS.split(),
    *("# ", "## ", "| - | :-: |", "> ", "- ", "+ ", "1. ", "2) ", "\n", "\n\n", "    ", "  ", " ", "\t"),
    *("語", "é", "http://e.org", '"', "'"),
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example('[a](b\n"c")')
@example("- - a")
@example("|-|\n---")
@example("\\\\*|*")
@example("a\n1) b\n\n```\n# c\n``\n```")
def test_no_character_disappears_and_none_moves(text: str) -> None:
    shown = text_of(render_markdown(text))
    drop = DELIMITERS if "<table" in render_markdown(text) else re.compile("(?!)")
    expected = without_syntax(drop.sub("", text))
    found = without_syntax(drop.sub("", shown))
    if drop is DELIMITERS:  # which of such lines a table took is the parser's to say
        expected, found = (re.sub("[-:]", "", one) for one in (expected, found))
    assert found == expected


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab \\_&;<>()$.!\n=:"), max_size=30))
def test_texts_without_syntax_look_as_they_differ(text: str) -> None:
    """Without any character of the syntax, a text is shown as it is, line by line."""
    shown = [line.split() for line in text_of(render_markdown(text)).split("\n") if line.strip()]
    assert ["".join(line) for line in shown] == [
        "".join(line.split()) for line in text.split("\n") if line.strip()
    ]
