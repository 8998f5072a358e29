"""JSON from outside: bounded before it is parsed, and checked before it is stored.

`parse_json` reads text and never fails in a way of its own making. `clean_json` refuses the values that a database or
UTF-8 cannot hold. Both raise JSONError, which says where the fault is.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
from django.utils.translation import gettext as _

from primitives.text import is_storable, printable

DEPTH = 32  # objects and lists inside one another
MARKS = 60_000  # brackets and commas outside strings: what decides how much memory parsing takes
INTEGER = 2**63  # a whole number is smaller, on either side of zero

# A string, or what there is of it. Possessive, so that a hostile one is passed over once.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[][{}]")
_LONG_NUMBER = re.compile(r"[0-9]{19}")


class JSONError(ValueError):
    """JSON that cannot be used: the message is a sentence, and `path` leads to the value that it is about."""

    def __init__(self, sentence: str, path: Sequence[str | int] = ()) -> None:
        super().__init__(sentence)
        self.path = tuple(path)


def parse_json(text: str | bytes, *, depth: int = DEPTH, marks: int = MARKS) -> Any:
    """Return the value of JSON text, checked by `clean_json`. Raises JSONError."""
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise JSONError(_("Byte %(byte)s is not UTF-8.") % {"byte": f"{error.start + 1:,}"}) from None
    is_bounded = _is_bounded(text, depth, marks)
    if is_bounded and "\\u0000" not in text:
        # It refuses half characters, NaN and Infinity, and is wrong only about numbers beyond 64 bits. The parser below
        # says in words what is wrong.
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(text)
            if _holds_texts_alone(value) or _LONG_NUMBER.search(text) is None:
                return value
    if not is_bounded:
        _check_outline(text, depth, marks)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise JSONError(_invalid(error)) from None
    except JSONError:
        raise
    except ValueError:  # a number of thousands of digits
        raise JSONError(_("A whole number is larger than 64 bits can hold.")) from None
    return clean_json(value, depth=depth)


def clean_json(value: Any, *, depth: int = DEPTH, size: int | None = None) -> Any:
    """Return `value`, a parsed JSON value that can be stored and read back. Raises JSONError.

    Numbers must be finite and whole numbers fit 64 bits. Text holds no NUL and no half characters. `depth` bounds
    objects and lists inside one another, `size` the bytes of it all as JSON.
    """
    path: list[str | int] = []
    _check(value, path, depth)
    # Blanks at most double what orjson writes without them. It is several times as fast.
    if size is not None and 2 * len(orjson.dumps(value)) <= size:
        return value
    if size is not None and (length := len(json.dumps(value, ensure_ascii=False).encode())) > size:
        raise JSONError(
            _("It has %(length)s bytes as JSON; at most %(size)s are taken.")
            % {"length": f"{length:,}", "size": f"{size:,}"}
        )
    return value


# --- Before parsing ----------------------------------------------------------------------------------------------


def _is_bounded(text: str, depth: int, marks: int) -> bool:
    """Return whether JSON is within the bounds, whatever is inside its strings: nearly always."""
    opened = text.count("[") + text.count("{")
    return opened <= depth and (len(text) <= marks or 2 * opened + text.count(",") <= marks)


def _holds_texts_alone(value: Any) -> bool:
    return isinstance(value, dict) and all(type(inner) is str for inner in value.values())


def _check_outline(text: str, depth: int, marks: int) -> None:
    """Refuse what would take far more memory than its text, or the parser's stack, without parsing it."""
    outline = _STRING.sub("", text)
    if sum(outline.count(mark) for mark in "[]{},") > marks:
        raise JSONError(_("The JSON holds too many values."))
    level = 0
    for bracket in _BRACKET.findall(outline):
        level += 1 if bracket in "[{" else -1
        if level > depth:
            raise JSONError(_too_deep(depth))


def _refuse_constant(name: str) -> None:
    raise JSONError(_("This is not valid JSON: %(name)s is not a JSON number.") % {"name": name})


def _invalid(error: json.JSONDecodeError) -> str:
    words = {"line": error.lineno, "column": error.colno, "error": error.msg.rstrip(".")}
    if error.lineno > 1:
        return _("This is not valid JSON at line %(line)s, column %(column)s: %(error)s.") % words
    return _("This is not valid JSON at column %(column)s: %(error)s.") % words


# --- After parsing -----------------------------------------------------------------------------------------------


def _check(value: Any, path: list[str | int], depth: int) -> None:
    if isinstance(value, str):
        if not is_storable(value):
            raise JSONError(_("%(place)s holds a NUL or half a character.") % {"place": _place(path)}, path)
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, int):
        if not -INTEGER <= value < INTEGER:
            raise JSONError(
                _("%(place)s is a whole number larger than 64 bits can hold.") % {"place": _place(path)}, path
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise JSONError(_("%(place)s is not a finite number.") % {"place": _place(path)}, path)
    elif isinstance(value, Mapping | list):
        _check_inside(value, path, depth)
    else:
        raise TypeError(f"{type(value).__name__} is not a type of JSON.")


def _check_inside(value: Mapping[str, Any] | list[Any], path: list[str | int], depth: int) -> None:
    if len(path) >= depth:
        raise JSONError(_too_deep(depth), path)
    for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
        if isinstance(key, str) and not is_storable(key):
            place = _place([*path, key])
            raise JSONError(_("The key %(place)s holds a NUL or half a character.") % {"place": place}, path)
        kind = type(inner)
        if (kind is str and is_storable(inner)) or (kind is int and -INTEGER <= inner < INTEGER):
            continue  # nearly all of what is sent, without a call for each
        path.append(key)
        _check(inner, path, depth)
        path.pop()


def _too_deep(depth: int) -> str:
    return _("The JSON is nested more than %(depth)s deep.") % {"depth": depth}


def _place(path: Sequence[str | int]) -> str:
    """Return a path as text, such as metadata.scores.3. A long one is shortened in the middle."""
    if not path:
        return _("The value")
    steps = [printable(str(step), 30) for step in path]
    return ".".join(steps if len(steps) <= 5 else [*steps[:2], "…", *steps[-2:]])
