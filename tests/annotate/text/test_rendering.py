"""Model text is shown, never run: whatever it holds, the page stays safe, legible and quick."""

import re
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from django.utils.safestring import SafeString
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotate.text import hidden_characters, markdown_html, rendering
from annotate.text.differences import mark_differences
from annotate.text.rendering import DISPLAY_LIMIT, render_markdown, render_raw


class Tags(HTMLParser):
    """The tags and text that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


KNOWN = {
    "div",  # of a block of code alone
    "mark",
    "p",
    "br",
    "hr",
    "h3",
    "h4",
    "ul",
    "ol",
    "li",
    "blockquote",
    "pre",
    "code",
    "em",
    "strong",
    "s",
    "a",
} | {*("span", "table", "thead", "tbody", "tr", "th", "td")}
HARMLESS = {"data-at", "href", "title", "class", "rel", "target", "start", "dir", "tabindex"}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<style>body{display:none}</style>",
    '<iframe srcdoc="<script>alert(1)</script>">',
    "<a href=javascript:alert(1)>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "<javascript:alert(1)>",
    '[x](https://a.example/" onmouseover="alert(1))',
    "![x](https://evil.example/pixel.png)",
    '[ref]\n\n[ref]: javascript:alert(1) "title"',
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "`<script>`",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    '<p style="position:fixed">x</p>',
    "</div></main><h1>Take over</h1>",
    "<!-- --><form action=https://evil.example><input name=password></form>",
    "<textarea><title></title><base href=https://evil.example>",
]


def assert_harmless(html: str) -> None:
    for tag, attributes in Tags(html).seen:
        assert tag in KNOWN
        assert tag != "div" or attributes == {"class": "code-block"}
        assert set(attributes) <= HARMLESS
        assert str(attributes.get("data-at", 0)).isdecimal()
        href = attributes.get("href")
        assert href is None or href.startswith(("http://", "https://", "mailto:"))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_harmlessly(text: str) -> None:
    assert_harmless(render_markdown(text))
    assert_harmless(render_raw(text))
    assert_harmless("".join(mark_differences(text, "something else").html))


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            [*HOSTILE, "**", "`", "```\n", "\n", "> ", "- ", "|", "\\", "&lt;", "\x00", "\u202e", "a"]
        )
    )
)
def test_no_mixture_of_hostile_pieces_becomes_harmful(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert_harmless(render_markdown(text))
    assert_harmless("".join(mark_differences(text, text[::-1]).html))


def test_raw_html_is_visible_as_it_was_written() -> None:
    assert "<b onclick=x>" in Tags(render_markdown("see <b onclick=x> here")).text


def test_the_filter_by_itself_leaves_no_page_in_a_link() -> None:
    """The parser makes no such link either."""
    assert "data:" not in markdown_html.CLEANER.clean('<a href="data:text/html,hi">x</a>')
    assert "data:" in markdown_html.CLEANER.clean('<img src="data:image/png;base64,AAAA">')


def test_links_open_a_new_page_without_a_referrer() -> None:
    [_, (tag, attributes), _] = Tags(render_markdown("[x](https://a.example)")).seen
    assert tag == "a"
    assert attributes["target"] == "_blank"
    assert attributes["rel"] == "noopener noreferrer nofollow"


def test_markdown_gives_tables_lists_and_highlighted_code() -> None:
    html = render_markdown("| a | n |\n|---|--:|\n| x | 1 |\n\n- *one*\n\n```python\ndef f(): pass\n```")
    assert '<td class="number">1</td>' in html
    assert '<span class="marker">-</span><p><em>one</em></p>' in html
    assert '<span class="k">def</span>' in html
    assert "style=" not in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("zero\u200bwidth", "U+200B"),
        ("soft\u00adhyphen", "U+00AD"),
        ("\u202egnirts", "U+202E"),
        ("tag \U000e0041", "U+E0041"),
        ("latin\u200djoined", "U+200D"),
        ("bell \x07", "U+0007"),
        ("s\ufe0fecret", "U+FE0F"),
        ("5\ufe0f", "U+FE0F"),  # no key cap follows
        ("s\U000e0100", "U+E0100"),
        ("empty \u2800 looking", "U+2800"),
        ("\U0001d173", "U+1D173"),
        ("сло\u200dво", "U+200D"),
        ("漢\u200c字", "U+200C"),
        ("a\u200d😀", "U+200D"),
        ("слово\u200e", "U+200E"),
        ("🏴\U000e0067\U000e0061\U000e007f", "U+E0067"),  # no flag
    ],
)
@pytest.mark.parametrize("render", [render_markdown, render_raw])
def test_what_hides_is_named(text: str, shown: str, render: Callable[[str], str]) -> None:
    html = render(text)
    assert shown in Tags(html).text
    assert not hidden_characters.HIDDEN.search(html)


def test_headings_stay_below_those_of_the_page() -> None:
    assert [tag for tag, _ in Tags(render_markdown("# a\n\n## b\n\n###### c")).seen] == ["h3", "h4", "h6"]


def test_hidden_characters_in_code_are_named_too() -> None:
    assert "U+200B" in Tags(render_markdown("```python\nx = '\u200b'\n```")).text
    assert "U+200B" in Tags(render_markdown("`\u200b`")).text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "ordinary text",
            "10 kΩ and 3 μm",
            "می‌خواهم",
            "PDF‌ها",
            "क्‍ष",
            "കണ്‍",
            "שלום\u200f!",
            "葛\U000e0100",
            "⠓⠑⠀⠇",
        ),
        *("👨‍👩‍👧", "❤️", "❤️‍🔥", "🏳️‍🌈", "👩🏽‍💻", "5️⃣", "☎︎", "ℹ️", "∩\ufe00"),
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
    ],
)
def test_honest_text_is_left_alone(text: str) -> None:
    assert "span" not in render_markdown(text)


def test_a_word_of_several_alphabets_is_marked() -> None:
    assert '<span class="mixed-script"' in render_markdown("log in at p\u0430ypal today")  # a Cyrillic а
    assert "mixed-script" not in render_markdown("слово and word")


@pytest.mark.parametrize("text", ["\nbelow", "\n\nfurther below", "at once"])
def test_raw_text_keeps_its_first_line_break(text: str) -> None:
    assert f">\n{text}</pre>" in render_raw(text)  # a browser swallows one after <pre>


# --- Work ---------------------------------------------------------------------------------------------------------


def work(function: Callable[[], object]) -> int:
    """Count the Python functions called: the same on every machine and every run."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(previous)
    return calls


SLOW = {
    "brackets": "[",
    "images": "![",
    "links": "[a](",
    "emphasis": "*a **a ",
    "underscores": "_a__ ",
    "quotes": "> > > > > a\n",
    "lists": "- - - - - a\n",
    "ticks": "`a``b",
    "cells": "|a",
    "entities": "&",
    "tags": "<a ",
    "references": "[a]: b\n",
    "fences": "```\n",
    "headings": "# a\n===\n",
    "formulas": "$a ",
    "brackets of formulas": " \\(a \\[",
    "blocks of formulas": "$$\na\n",
    "code": "```python\n('(((\n```\n",
}


@pytest.mark.parametrize("pattern", SLOW.values(), ids=SLOW)
def test_work_grows_no_faster_than_the_text(pattern: str) -> None:
    def rendered(length: int) -> int:
        text = (pattern * length)[:length]
        return work(lambda: rendering._render(text, {}, ()))

    rendered(500)  # what is set up once
    assert rendered(2_000) < 2.5 * rendered(1_000) + 5_000


@pytest.mark.parametrize("pattern", ["\\[", "\\(", "\\( \\["])
def test_formulas_that_never_end_are_looked_through_fast(pattern: str) -> None:
    text = (pattern * DISPLAY_LIMIT)[:DISPLAY_LIMIT]
    begun = time.process_time()
    rendering._render(text, {}, ())
    assert time.process_time() - begun < 0.7  # a second and more where each place is looked at from each


def test_text_that_costs_too_much_is_shown_raw() -> None:
    text = "![" * 20_000
    assert render_markdown(text) == render_raw(text)


def test_a_table_of_empty_cells_does_not_blow_up_the_page() -> None:
    text = "|a" * 700 + "|\n" + "|-" * 700 + "|\n" + "a\n" * 200
    assert len(render_markdown(text)) < 20 * len(text)


def test_a_megabyte_on_one_line_is_cut_for_display() -> None:
    text = "x" * 1_000_000
    assert rendering.cut(text) == ("x" * DISPLAY_LIMIT, True)
    for html in (render_markdown(text), render_raw(text), *mark_differences(text, text).html):
        assert len(html) < DISPLAY_LIMIT + 200


def test_hidden_characters_do_not_blow_up_the_page() -> None:
    for text in ("\u200b" * 60_000, "а\u200bb " * 20_000, "аb " * 20_000, "\u202e<" * 30_000):
        shown, is_cut = rendering.cut(text)
        assert is_cut
        assert text.startswith(shown)
        for html in (render_markdown(text), render_raw(text), *mark_differences(text, text).html):
            assert len(html) < 10 * DISPLAY_LIMIT


@example("b" * 9 + "аb", 10)
@given(st.text(st.sampled_from("аb \u200b"), max_size=60), st.integers(0, 200))
def test_a_text_takes_no_more_room_than_there_is(text: str, room: int) -> None:
    shown, taken = rendering._fit(text, room)
    assert taken <= room
    assert text.startswith(shown)


def test_several_texts_are_cut_together_as_one_is() -> None:
    room = rendering.Room()
    texts = ["x" * 50_000, "y" * 5_000]
    assert [len(room.take(text)) for text in texts] == [50_000, 5_000]
    assert not room.is_exceeded
    assert [len(room.take(text)) for text in ("z" * 20_000, "more")] == [5_000, 0]
    assert room.is_exceeded


def code(language: str, length: int) -> str:
    pattern = {"yaml": "- a\n", "html": "<a>"}.get(language, "a.b.")
    return f"```{language}\n{(pattern * length)[: length - 2]}x\n```\n"


def highlighted(html: str) -> list[bool]:
    """Return of each block of code whether it is highlighted."""
    return ["<span" in block for block in re.findall("<code>(.*?)</code>", html, re.DOTALL)]


def test_highlighting_has_a_budget_for_a_block_and_for_a_text() -> None:
    most, all_ = markdown_html.HIGHLIGHTED_BLOCK, markdown_html.HIGHLIGHTED_TEXT
    for language in ("ts", "yaml", "html", "js"):
        assert highlighted(render_markdown(code(language, most) + code(language, most + 1))) == [True, False]
        blocks = all_ // most
        assert (
            highlighted(render_markdown(code(language, most) * (blocks + 2))) == [True] * blocks + [False] * 2
        )
    # What a block leaves over is for the ones after it.
    rest = code("js", 1_500) + code("js", 501) + code("js", 500)
    assert highlighted(render_markdown(code("js", most) * 4 + rest)) == [*[True] * 5, False, True]


def test_a_text_is_rendered_once_while_the_cache_has_room() -> None:
    text = "once " * 9_000
    assert render_markdown(text) is render_markdown(text)
    cache = rendering.HtmlCache(3_000)
    kept = {name: cache.keep(name, SafeString(name * 1_000)) for name in "abc"}
    assert cache.find("a") is None  # it was not asked for the longest
    assert cache.find("b") is kept["b"]
    cache.keep("d", SafeString("d" * 1_000))
    assert [cache.find(name) is not None for name in "bcd"] == [True, False, True]
    cache.keep("e", SafeString("e" * 5_000))
    assert cache.used == 0


def test_a_draft_looks_the_same_and_takes_no_room_in_the_cache() -> None:
    for text in (
        "draft **so** far",
        "<think>draft thoughts</think>draft *words*",
        "<think>draft without an end",
    ):
        used = rendering.CACHE.used
        draft = rendering.render_markdown(text, is_draft=True)
        assert rendering.CACHE.used == used
        assert draft == render_markdown(text)


@pytest.mark.parametrize("sign", ["- {}", "> {}", "1. {}"])
@pytest.mark.parametrize("levels", [3, 9, 10, 11, 20, 60])
def test_nothing_that_is_nested_is_lost(sign: str, levels: int) -> None:
    if sign == "> {}":
        text = "\n\n".join(f"{'>' * level} deep{level}" for level in range(1, levels + 1))
    else:
        text = "\n".join(f"{' ' * 3 * level}{sign.format(f'deep{level}')}" for level in range(1, levels + 1))
    shown = render_markdown(text)
    assert all(re.search(rf"deep{level}\b", shown) for level in range(1, levels + 1))
