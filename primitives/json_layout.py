"""JSON in texts, laid out to be read: line breaks and blanks between its tokens, and every token as it was written.

Parsed and written again, a number or an escape would read otherwise than what its author wrote.
"""

import json
import re
from collections.abc import Iterator

DEPTH = 32  # objects and lists inside one another
LIMIT = 60_000  # characters of a text that is laid out, and of what it becomes
_BLANKS = " \t\r\n"  # those of JSON
# A string that has no end goes on to the end of the text, so that no character is read twice.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[][{}:,]|[^][{}:,"\s]++', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}


def lay_out(text: str) -> str | None:
    """Return the objects and lists that `text` consists of, indented. None if it is anything else, or has no need."""
    if not text.lstrip(_BLANKS).startswith(("{", "[")) or len(text) > LIMIT:
        return None
    tokens = _TOKEN.findall(text)
    if not _is_shallow(tokens) or not _is_json(text):
        return None
    pieces, length = [], 0
    for piece in _place(tokens):
        pieces.append(piece)
        length += len(piece)
        if length > LIMIT:
            return None
    laid_out = "".join(pieces)
    return None if laid_out == text.strip(_BLANKS) else laid_out


def _is_shallow(tokens: list[str]) -> bool:
    depth = 0
    for token in tokens:
        depth += token in _CLOSING
        depth -= token in _CLOSING.values()
        if depth > DEPTH:
            return False
    return True


def _is_json(text: str) -> bool:
    """Return whether `text` is objects and lists of JSON, one after the other, and nothing else."""
    decoder, text, at = json.JSONDecoder(), text.rstrip(_BLANKS), 0
    try:
        while at < len(text):
            if text[at] in _BLANKS:
                at += 1
                continue
            value, at = decoder.raw_decode(text, at)
            if not isinstance(value, dict | list):
                return False
    except ValueError:
        return False
    return True


def _place(words: list[str]) -> Iterator[str]:
    """Yield the tokens and what goes between them. An empty object or list stays on its line."""
    depth, before = 0, ""
    for word in words:
        if word in _CLOSING.values():
            depth -= 1
            if _CLOSING.get(before) != word:
                yield _line(depth)
        elif before in _CLOSING or before == ",":
            yield _line(depth)
        elif before and not depth:
            yield "\n"
        yield word + " " * (word == ":")
        depth += word in _CLOSING
        before = word


def _line(depth: int) -> str:
    return "\n" + "  " * depth
