"""Untrusted text made safe to look at, as Markdown or raw.

What a model wrote may be hostile by accident or on purpose. Nothing here trusts it: raw HTML is shown as text,
images are verified or named (`images.py`), links cannot run scripts, characters that hide are made visible, and the
work done for a text is bounded by its length. nh3 cleans the result once more, so that a mistake in the Markdown
renderer is not a hole in the page.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, MutableMapping, Sequence
from sys import getsizeof
from typing import Any

import nh3
from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, ngettext
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from annotate.text.dialect import make_parser
from annotate.text.hidden_characters import hidden_places, mark_hidden, visible
from annotate.text.images import FOLDED, Payloads, fold, show_folded, show_image, unfold
from annotate.text.reasoning import split_reasoning

DISPLAY_LIMIT = 60_000  # characters of one text that a page shows; the whole text is a link away
MARK_ROOM = 10  # characters that a marked one counts as: its name and tags are longer still
CACHE_SIZE = 32 * 1024 * 1024  # bytes of HTML
# Characters of code that are highlighted, in a block and in a text: some lexers take the square of the time.
HIGHLIGHTED_BLOCK = 2_000
HIGHLIGHTED_TEXT = 10_000
# The lexers that hostile text may choose from: common languages, none known to be slow.
LANGUAGES = re.compile(
    "bash|c|cpp|css|diff|go|html|java|javascript|js|json|kotlin|lua|php|python|py|r|ruby|rust|sh|sql|swift|toml|ts|"
    "typescript|xml|yaml"
)


def cut(text: str) -> tuple[str, bool]:
    """Return the part of `text` that a page shows, and whether that is not all of it."""
    folded, payloads = fold(text)
    shown, _ = _fit(folded, DISPLAY_LIMIT)
    return unfold(shown, payloads), len(shown) < len(folded)


class Room:
    """The room for text on a page, shared by several texts."""

    def __init__(self) -> None:
        self.left = DISPLAY_LIMIT
        self.is_exceeded = False

    def take(self, text: str) -> str:
        """Return the part of `text` that there is room for. After one that is cut, there is none."""
        folded, payloads = fold(text)
        shown, taken = _fit(folded, self.left)
        if len(shown) < len(folded):
            self.left, self.is_exceeded = 0, True
        else:
            self.left -= taken
        return unfold(shown, payloads)


def _fit(text: str, room: int) -> tuple[str, int]:
    """Return the beginning of `text` that fits into `room`, and the room that it takes."""
    shown = text[:room]
    marks, end = 0, len(shown)
    for start in hidden_places(shown):
        if start + (marks + 1) * MARK_ROOM >= room:
            end = start
            break
        marks += 1
    end = min(end, room - marks * MARK_ROOM)
    return shown[:end], end + marks * MARK_ROOM


def markdown(text: str, hosts: Sequence[str] = ()) -> SafeString:
    """Return `text`, cut for display, as clean HTML: the answer first, and the reasoning before it folded away.

    Remote images are loaded from `hosts` alone.
    """
    folded, payloads = fold(text)
    reasoning, answer, is_whole = split_reasoning(folded)
    shown, taken = _fit(answer, DISPLAY_LIMIT)
    html = SafeString("")
    if shown.strip() or not reasoning.strip():
        html = _rendered(shown, payloads, hosts)
    if not reasoning.strip():
        return html
    thoughts, _ = _fit(reasoning, DISPLAY_LIMIT - taken)
    return html + format_html(
        '<details class="reasoning"{}><summary>{}</summary>{}</details>',
        "" if is_whole else SafeString(" open"),
        _reasoning_title(len(unfold(reasoning, payloads)), is_whole),
        _rendered(thoughts, payloads, hosts),
    )


def _reasoning_title(length: int, is_whole: bool) -> str:
    count = {"count": intcomma(length)}
    if is_whole:
        return ngettext("Reasoning, %(count)s character", "Reasoning, %(count)s characters", length) % count
    return (
        ngettext(
            "Reasoning without an end, %(count)s character",
            "Reasoning without an end, %(count)s characters",
            length,
        )
        % count
    )


def _rendered(shown: str, payloads: Payloads, hosts: Sequence[str]) -> SafeString:
    # A completion never changes, so neither does what it renders to.
    key = "\n".join((str(get_language()), " ".join(hosts), shown))
    return CACHE.find(key) or CACHE.keep(key, _markdown(shown, payloads, hosts))


def raw(text: str) -> SafeString:
    """`text`, cut for display, character by character as it is, with what hides made visible."""
    folded, payloads = fold(text)
    shown, _ = _fit(folded, DISPLAY_LIMIT)
    return _raw(shown, payloads)


def _raw(shown: str, payloads: Payloads) -> SafeString:
    # A browser swallows the line break after <pre>; this one is not the text's.
    html = show_folded(visible(shown), payloads)
    return mark_safe(f'<pre class="raw-text" dir="auto">\n{html}</pre>')  # noqa: S308 - visible() escapes


def visible_name(name: str) -> SafeString:
    """Return a name from a text, safe for HTML, with what hides made visible."""
    return mark_safe(visible(name))  # noqa: S308 - visible() escapes


def _markdown(text: str, payloads: Payloads, hosts: Sequence[str]) -> SafeString:
    # Honest text takes less than a third of this work.
    environment: dict[str, Any] = {
        "work": len(text) + 2_000,
        "highlighted": HIGHLIGHTED_TEXT,
        "payloads": payloads,
        "hosts": hosts,
    }
    try:
        tokens = PARSER.parse(text, environment)
        # A table can hold a square of empty cells for a line of text.
        if len(tokens) > 2 * len(text) + 1_000:
            return _raw(text, payloads)
        html = PARSER.renderer.render(tokens, PARSER.options, environment)
    except WorkLimitError:
        return _raw(text, payloads)
    return mark_safe(CLEANER.clean(html))  # noqa: S308 - cleaned on this line


class HtmlCache:
    """Rendered texts by what they were rendered from: the latest ones, in a bounded number of bytes."""

    def __init__(self, size: int) -> None:
        self.size, self.used = size, 0
        self._found: OrderedDict[bytes, SafeString] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> SafeString | None:
        digest = self._digest(text)
        with self._lock:
            html = self._found.get(digest)
            if html is not None:
                self._found.move_to_end(digest)
        return html

    def keep(self, text: str, html: SafeString) -> SafeString:
        """Store `html` and return it. Evict what was not asked for the longest."""
        digest = self._digest(text)
        with self._lock:
            if digest not in self._found:
                self._found[digest] = html
                self.used += getsizeof(html)
            while self.used > self.size:
                _digest, oldest = self._found.popitem(last=False)
                self.used -= getsizeof(oldest)
        return html

    @staticmethod
    def _digest(text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


CACHE = HtmlCache(CACHE_SIZE)


Environment = MutableMapping[str, Any]

# --- The Markdown parser -----------------------------------------------------------------------------------------


class WorkLimitError(Exception):
    """The text makes the parser go over it again and again."""


def _count_inline(state: StateInline, silent: bool) -> bool:
    return _spend(state.env)


def _count_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    return _spend(state.env)


def _spend(environment: MutableMapping[str, Any]) -> bool:
    """Count one step of the parser. The rule never matches and is tried at each position."""
    environment["work"] -= 1
    if environment["work"] < 0:
        raise WorkLimitError
    return False


def _text(token: Token, env: Environment) -> str:
    """Return text, with the images of its data URIs, whether or not Markdown's signs are around them."""
    html, end = "", 0
    for match in FOLDED.finditer(token.content) if env["payloads"] else ():
        if match[1].lower().startswith("data:image/"):
            html += _visible(token.content[end : match.start()], env)
            html += show_image(match[0], match[0], env["payloads"], ())
            end = match.end()
    return html + _visible(token.content[end:], env)


def _visible(text: str, env: Environment) -> str:
    return show_folded(visible(text), env["payloads"])


def _link_target(token: Token, env: Environment) -> str:
    return f'<span class="link-target">{_visible(token.content, env)}</span>'


def _math(token: Token, env: Environment) -> str:
    """Return a formula as it was written, for `static/math.js` to typeset."""
    return f'<{token.tag} class="math">{_visible(token.content, env)}</{token.tag}>'


def _script(token: Token, env: Environment) -> str:
    """Return raised or lowered text."""
    return f"<{token.tag}>{_visible(token.content, env)}</{token.tag}>"


def _code_inline(token: Token, env: Environment) -> str:
    return f"<code>{_visible(token.content, env)}</code>"


def _code_block(token: Token, env: Environment) -> str:
    language = token.info.strip().partition(" ")[0].lower()
    named = f'<span class="language">{visible(token.info.strip())}</span>' if token.info.strip() else ""
    code = (
        token.content
        if token.type == "fence"
        else re.sub("^(?=.)", "    ", token.content, flags=re.MULTILINE)
    )
    # The stylesheet and `static/whetstone.js` know the block by its class; a text cannot write a <div> of its own.
    block = f'<pre dir="ltr"><code>{_code(code, language, env)}</code></pre>'
    return f'<div class="code-block">{named}{block}</div>\n'


def _image(token: Token, env: Environment) -> str:
    return show_image(str(token.attrGet("src")), token.meta["source"], env["payloads"], env["hosts"])


def _table(token: Token, env: Environment) -> str:
    """Return a table that can be scrolled by keyboard where it is wider than its box."""
    return '<table tabindex="0">\n'


def _cell(token: Token, env: Environment) -> str:
    """Return a table cell; its alignment is a class, as style attributes are forbidden."""
    numeric = token.attrGet("style") == "text-align:right"
    return f'<{token.tag} class="number">' if numeric else f"<{token.tag}>"


def _heading(token: Token, env: Environment) -> str:
    """Two levels down: the page's own headings name the completions, and a text must not pose as one of them."""
    return f"<{'/' if token.nesting < 0 else ''}h{min(6, int(token.tag[1]) + 2)}>"


def _paragraph(token: Token, env: Environment) -> str:
    """Every run of text is a paragraph, in a tight list too: its line breaks are those of the text."""
    return "<p>" if token.nesting > 0 else "</p>\n"


def _item(token: Token, env: Environment) -> str:
    """Return an item of a list with its number or bullet as it was written, on the side where its text begins."""
    box = "☑" if token.meta.get("checked") else "☐"
    task = f'<span class="task">{box}</span>' if "checked" in token.meta else ""
    return f'<li dir="auto"><span class="marker">{token.info}{token.markup}</span>{task}'


def _rule(token: Token, env: Environment) -> str:
    return f'<p class="rule">{_visible(token.content, env)}</p>\n'


def _line_break(token: Token, env: Environment) -> str:
    return "<br>"


RULES: dict[str, Callable[[Token, Environment], str]] = {
    "text": _text,
    "code_inline": _code_inline,
    "code_block": _code_block,
    "fence": _code_block,
    "image": _image,
    "table_open": _table,
    "th_open": _cell,
    "td_open": _cell,
    "heading_open": _heading,
    "heading_close": _heading,
    "link_target": _link_target,
    "paragraph_open": _paragraph,
    "paragraph_close": _paragraph,
    "list_item_open": _item,
    "hr": _rule,
    "script": _script,
    "footnote": _script,
    "math_inline": _math,
    "math_block": _math,
    "hardbreak": _line_break,
}


def _as_method(rule: Callable[[Token, Environment], str]) -> Callable[..., str]:
    """Return a rule as markdown-it calls it: with the renderer and all tokens."""

    def method(
        _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, env: Environment
    ) -> str:
        return rule(tokens[index], env)

    return method


def _parser() -> MarkdownIt:
    parser = make_parser()
    parser.inline.ruler.before("text", "count", _count_inline)
    parser.block.ruler.before("table", "count", _count_block)
    for name, rule in RULES.items():
        parser.add_render_rule(name, _as_method(rule))
    return parser


def _code(text: str, language: str, env: MutableMapping[str, Any]) -> str:
    if not LANGUAGES.fullmatch(language) or len(text) > min(HIGHLIGHTED_BLOCK, env["highlighted"]):
        return _visible(text, env)
    env["highlighted"] -= len(text)
    html = highlight(text, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
    # Between its tags, Pygments' output is escaped text: only that may be marked.
    html = re.sub(r"(?<=>)[^<]+|^[^<]+", lambda match: mark_hidden(match[0]), html)
    return show_folded(html, env["payloads"])


def _filter_attribute(tag: str, name: str, value: str) -> str | None:
    """Keep data URIs to images: as the target of a link, one could be a page."""
    return None if value.lower().startswith("data:") and (tag, name) != ("img", "src") else value


PARSER = _parser()
CLEANER = nh3.Cleaner(
    tags={
        "div",
        "p",
        "br",
        "hr",
        "ul",
        "ol",
        "li",
        "pre",
        "code",
        "em",
        "strong",
        "s",
        "sub",
        "sup",
        "a",
        "span",
        "img",
    }
    | {"h3", "h4", "h5", "h6"}
    | {"table", "thead", "tbody", "tr", "th", "td"},
    attributes={
        "a": {"href", "title"},
        "ol": {"start"},
        "pre": {"dir"},
        "div": {"class"},
        "p": {"class"},
        "li": {"dir"},
        "span": {"class", "title"},
        "table": {"tabindex"},
        "th": {"class"},
        "td": {"class"},
        "img": {"src", "width", "height", "alt", "referrerpolicy"},
    },
    attribute_filter=_filter_attribute,
    url_schemes={"http", "https", "mailto", "data"},
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
)
