"""Markdown as clean HTML: how each part of a text is written.

Nothing here trusts the text. Raw HTML is shown as text, images are verified or named (`images.py`), and links
cannot run scripts. The work done for a text is bounded by its length. The library nh3 cleans the result once more,
so that a mistake in the Markdown renderer is not a hole in the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from annotate.text.dialect import MOST_NESTED, make_parser
from annotate.text.hidden_characters import make_visible, mark_hidden
from annotate.text.images import FOLDED, Payloads, show_folded, show_image

# Characters of code that are highlighted, in a block and in a text: some lexers take the square of the time.
HIGHLIGHTED_BLOCK = 2_000
HIGHLIGHTED_TEXT = 10_000
# The lexers that hostile text may choose from: common languages, none known to be slow.
LANGUAGES = re.compile(
    "bash|c|cpp|css|diff|go|html|java|javascript|js|json|kotlin|lua|php|python|py|r|ruby|rust|sh|sql|swift|toml|ts|"
    "typescript|xml|yaml"
)

Environment = MutableMapping[str, Any]


class WorkLimitError(Exception):
    """The text takes more work than its length allows."""


def write_html(text: str, payloads: Payloads, hosts: Sequence[str]) -> SafeString:
    """Return a text as HTML, its images from `payloads` and from `hosts` alone. Raises WorkLimitError."""
    environment: Environment = {
        "work": len(text) + 2_000,  # honest text takes less than a third of it
        "highlighted": HIGHLIGHTED_TEXT,
        "payloads": payloads,
        "hosts": hosts,
    }
    tokens = PARSER.parse(text, environment)
    # A table can hold a square of empty cells for a line of text.
    if len(tokens) > 2 * len(text) + 1_000 or any(map(_is_emptied, tokens)):
        raise WorkLimitError
    html = PARSER.renderer.render(tokens, PARSER.options, environment)
    return mark_safe(CLEANER.clean(html))  # noqa: S308 - cleaned on this line


def _is_emptied(token: Token) -> bool:
    """Return whether a list's item or a quote is nested so deep that the parser drops what is in it."""
    return token.type in ("list_item_open", "blockquote_open") and token.level == MOST_NESTED - 1


# --- The work that a text may take -------------------------------------------------------------------------------


def _count_inline(state: StateInline, silent: bool) -> bool:
    return _spend(state.env)


def _count_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    return _spend(state.env)


def _spend(environment: Environment) -> bool:
    """Count one step of the parser. The rule never matches and is tried at each position."""
    environment["work"] -= 1
    if environment["work"] < 0:
        raise WorkLimitError
    return False


# --- How each part is written ------------------------------------------------------------------------------------


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
    return show_folded(make_visible(text), env["payloads"])


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
    named = f'<span class="language">{make_visible(token.info.strip())}</span>' if token.info.strip() else ""
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
    """Move a heading two levels down. The page's own headings name the completions, which no text may pose as."""
    return f"<{'/' if token.nesting < 0 else ''}h{min(6, int(token.tag[1]) + 2)}>"


def _paragraph(token: Token, env: Environment) -> str:
    """Make every run of text a paragraph, in a tight list too: its line breaks are those of the text."""
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


# --- The parser, and the filter behind it ------------------------------------------------------------------------


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


def _code(text: str, language: str, env: Environment) -> str:
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
