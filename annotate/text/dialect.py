"""The Markdown that completions are read as: it formats a text, and hides none of it.

A reader of formatted text sees every character but these, which show as formatting:

- `**` and `*` around bold and italic words, but not between two ASCII letters or digits: `2*3*4` stays as it is
- `~~` around struck words
- `#` to `######` before a heading
- backticks around code, and those of the lines that begin and end a block of code
- the pipes of a table, the line of dashes below its head, and the backslash of `\\|` in a cell
- mathematics: `$x$`, `\\(x\\)`, `$$x$$`, `\\[x\\]` and environments such as `\\begin{align*}`, which a browser
  typesets if it can
- `<br>`, and `<sub>` or `<sup>` around a few characters; all other HTML is text
- `[ ]` and `[x]` at the beginning of a list's item, which show as boxes
- `[^1]` where a line defines it with `[^1]:`, which shows as a raised 1
- the brackets of `[text](address)`; its address is shown behind the text

Everything else that CommonMark would swallow is text here. Examples are backslashes, entities, underscores, numbers
and bullets of lists, `>` of quotations, rules, reference definitions and addresses in angle brackets. Line breaks
and indentation stay.
"""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.fence import fence
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.image import image
from markdown_it.rules_inline.link import link
from markdown_it.rules_inline.state_inline import Delimiter

_NOT_USED = [
    "entity",
    "autolink",
    "html_inline",
    "newline",
    "html_block",
    "lheading",
    "reference",
    "hr",
    "blockquote",
]
LONGEST_FORMULA = 2_000  # characters
# A dollar sign opens a formula before anything but a blank, and closes it behind anything but a blank, unless a letter
# or a digit follows. A backslash in the middle of a regular expression or a command opens none.
_FORMULA = re.compile(
    r"\$\$[^$]+\$\$"
    r"|(?<![A-Za-z0-9_'\"^\\/)\]}.*+?|])\\[(\[]"  # what closes it is looked for apart, which is faster
    r"|\$(?P<dollars>(?=\S)[^$\n]*[^\s$\\])\$(?![$\w])"
)
MOST_NESTED = 20  # levels of blocks; a list has two
_CLOSING = {"\\(": "\\)", "\\[": "\\]"}
_ENVIRONMENT = re.compile(r"\\begin\{((?:equation|align|gather|multline)\*?)\}")
_PRICE = re.compile(r"\d(?=\S*\s)[^\\^_={}+*/<>]*")
_BOX = re.compile(r"\[([ xX])\](?=\s)")
_DEFINITION = re.compile(r"(?m)^ {0,3}\[\^([\w-]{1,20})\]:")
_REFERENCE = re.compile(r"\[\^([\w-]{1,20})\]")
_TAG = re.compile(r"<br */?>|<(?P<name>su[bp])>(?P<text>[^<\n]{1,100})</(?P=name)>", re.IGNORECASE)
_ESCAPED = frozenset("\\!\"#$%&'()*+,./:;<=>?@[]^_`{|}~-")


def make_parser() -> MarkdownIt:
    """Return a parser of this dialect. A renderer shows the `info` and `markup` of a list's item before its text."""
    parser = MarkdownIt("js-default", {"html": False, "linkify": False, "maxNesting": MOST_NESTED})
    parser.disable(_NOT_USED)
    parser.core.ruler.after("normalize", "footnotes", _find_footnotes)
    parser.core.ruler.after("block", "tasks", _read_tasks)
    parser.core.ruler.after("block", "indentation", _keep_indentation)
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.at("fence", _fence, {"alt": ["paragraph", "reference", "list"]})
    parser.block.ruler.at("heading", _heading, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.before("list", "rule", _rule, {"alt": ["paragraph", "reference", "list"]})
    parser.block.ruler.before("fence", "math_block", _math_block, {"alt": ["paragraph", "reference", "list"]})
    parser.inline.ruler.before("escape", "math", _math)
    parser.inline.ruler.at("escape", _escape)
    parser.inline.ruler.before("link", "footnote", _footnote)
    parser.inline.ruler.before("link", "tag", _tag)
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.inline.ruler.at("link", _link)
    parser.inline.ruler.at("image", _image)
    return parser


# --- Blocks --------------------------------------------------------------------------------------------------------


def _keep_indentation(state: StateCore) -> None:
    """Put back the blanks before the first line of a paragraph, which CommonMark drops."""
    lines = state.src.split("\n")
    for opening, inline in zip(state.tokens, state.tokens[1:], strict=False):
        if opening.type == "paragraph_open" and opening.level == 0 and opening.map:
            line = lines[opening.map[0]]
            inline.content = line[: len(line) - len(line.lstrip())] + inline.content


def _read_tasks(state: StateCore) -> None:
    """Take the box at the beginning of a list's item off its text; the item's token knows whether it is checked."""
    for item, _paragraph, inline in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if item.type == "list_item_open" and inline.type == "inline" and (box := _BOX.match(inline.content)):
            item.meta["checked"] = box[1] != " "
            inline.content = inline.content[box.end() :]


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a table, unless a row has more cells than the head: those would not be shown."""
    if start + 2 > end or "|" not in getLine(state, start):
        return False
    columns = _cells(getLine(state, start))
    for line in range(start + 2, end):
        text = getLine(state, line)
        if not text.strip():
            break
        if _cells(text) > columns:
            return False
    return table(state, start, end, silent)


def _cells(line: str) -> int:
    cells = escapedSplit(line.strip())
    return len(cells) - (cells[0] == "") - (len(cells) > 1 and cells[-1] == "")


def _fence(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a block of code between backticks; tildes are text."""
    if getLine(state, start).startswith("~"):
        return False
    return fence(state, start, end, silent)


def _heading(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a heading with all of its text: `#` at its end belongs to it."""
    line = getLine(state, start)
    level = len(line) - len(line.lstrip("#"))
    if state.is_code_block(start) or not 1 <= level <= 6 or line[level : level + 1] not in (" ", "\t"):
        return False
    if silent:
        return True
    state.line = start + 1
    token = state.push("heading_open", f"h{level}", 1)
    token.markup, token.map = "#" * level, [start, state.line]
    token = state.push("inline", "", 0)
    token.content, token.map, token.children = line[level:].strip(), [start, state.line], []
    token = state.push("heading_close", f"h{level}", -1)
    token.markup = "#" * level
    return True


def _rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a line of three or more dashes, stars or underscores. Its token holds them as they were written."""
    line = getLine(state, start)
    marks = line.replace(" ", "").replace("\t", "")
    if state.is_code_block(start) or len(marks) < 3 or marks[0] not in "-*_" or marks.strip(marks[0]):
        return False
    if silent:
        return True
    state.line = start + 1
    token = state.push("hr", "hr", 0)
    token.map, token.content = [start, state.line], line.strip()
    return True


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read lines from one that begins with `$$`, `\\[` or an environment to one that ends with its counterpart."""
    first = getLine(state, start).rstrip()
    environment = _ENVIRONMENT.match(first)
    closing = f"\\end{{{environment[1]}}}" if environment else {"$$": "$$", "\\[": "\\]"}.get(first[:2])
    if closing is None or state.is_code_block(start):
        return False
    length = 0
    for line in range(start, end):
        text = getLine(state, line).rstrip()
        length += len(text)
        if not text or length > LONGEST_FORMULA:
            return False
        if text.endswith(closing) and (line > start or len(text) > 4):
            break
    else:
        return False
    if silent:
        return True
    state.line = line + 1
    token = state.push("math_block", "p", 0)
    token.map = [start, state.line]
    token.content = state.getLines(start, state.line, state.blkIndent, False).strip()
    return True


# --- Words ---------------------------------------------------------------------------------------------------------


def _escape(state: StateInline, silent: bool) -> bool:
    """Take a backslash and the punctuation behind it as the two characters that they are."""
    pair = state.src[state.pos : min(state.pos + 2, state.posMax)]
    if len(pair) < 2 or pair[0] != "\\" or pair[1] not in _ESCAPED:
        return False
    if not silent:
        state.pending += pair
    state.pos += 2
    return True


def _math(state: StateInline, silent: bool) -> bool:
    """Read a formula. Prices are not mathematics, and neither is what a shell would expand."""
    most = min(state.posMax, state.pos + LONGEST_FORMULA)
    found = _FORMULA.match(state.src, state.pos, most)
    if found is None or (found["dollars"] and _PRICE.fullmatch(found["dollars"])):
        return False
    end = found.end()
    if closing := _CLOSING.get(found[0]):
        closed = state.src.find(closing, end, most)
        if closed <= end:  # nowhere, or around nothing
            return False
        end = closed + len(closing)
    if not silent:
        state.push("math_inline", "span", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


def _find_footnotes(state: StateCore) -> None:
    """Note the labels of footnotes that a line of the text defines: others may be a pattern such as [^a]."""
    state.env["footnotes"] = set(_DEFINITION.findall(state.src))


def _footnote(state: StateInline, silent: bool) -> bool:
    found = _REFERENCE.match(state.src, state.pos)
    if found is None or found[1] not in state.env.get("footnotes", ()):
        return False
    if not silent:
        state.push("footnote", "sup", 0).content = found[1]
    state.pos = found.end()
    return True


def _tag(state: StateInline, silent: bool) -> bool:
    """Read a line break, and short raised or lowered text."""
    found = _TAG.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        if found["name"]:
            state.push("script", found["name"].lower(), 0).content = found["text"]
        else:
            state.push("hardbreak", "br", 0)
    state.pos = found.end()
    return True


def _emphasis(state: StateInline, silent: bool) -> bool:
    """Read stars as emphasis, as CommonMark does, but not between two ASCII letters or digits."""
    start = state.pos
    if silent or state.src[start] != "*":
        return False
    scanned = state.scanDelims(start, True)
    before = state.src[start - 1] if start else " "
    after = state.src[start + scanned.length] if start + scanned.length < state.posMax else " "
    inside_word = _is_ascii_word(before) and _is_ascii_word(after)
    for _ in range(scanned.length):
        token = state.push("text", "", 0)
        token.content = "*"
        state.delimiters.append(
            Delimiter(
                marker=ord("*"),
                length=scanned.length,
                token=len(state.tokens) - 1,
                end=-1,
                open=scanned.can_open and not inside_word,
                close=scanned.can_close and not inside_word,
            )
        )
    state.pos += scanned.length
    return True


def _is_ascii_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


def _link(state: StateInline, silent: bool) -> bool:
    """Read `[text](address)`, and show the address with its parentheses behind the text."""
    if state.src[state.pos] != "[":
        return False
    end = state.md.helpers.parseLinkLabel(state, state.pos, True)
    if not link(state, silent):
        return False
    if not silent:
        state.push("link_target", "span", 0).content = state.src[end + 1 : state.pos]
    return True


def _image(state: StateInline, silent: bool) -> bool:
    """Read `![name](address)`. Its token holds the source, as no image is loaded."""
    start = state.pos
    if not image(state, silent):
        return False
    if not silent:
        state.tokens[-1].meta["source"] = state.src[start : state.pos]
    return True
