"""The header of a GGUF file, read as far as it tells the model's context. Any file may be given: all is bounded."""

import struct
from pathlib import Path
from typing import BinaryIO

MOST_KEYS = 10_000
MOST_ITEMS = 2_000_000  # of a list: vocabularies have hundreds of thousands
MOST_BYTES = 256 << 20  # of a header
MOST_TEXT = 1 << 20  # bytes of a key, or of a text that is kept
_TEXT, _LIST = 8, 9
# The kinds of numbers, by their codes in the file.
_NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}


def read_context(path: Path) -> int | None:
    """Return the longest input in tokens that a GGUF file names, or None if it names none or is no such file."""
    found: dict[str, object] = {}
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return None
            _version, _tensors, keys = _unpack(file, "<IQQ")
            for _ in range(min(keys, MOST_KEYS)):
                name = _read_text(file, _count(file))
                found[name] = _read_value(file, _count(file, "<I"))
                context = found.get(f"{found.get('general.architecture')}.context_length")
                if isinstance(context, int):
                    return context if context > 0 else None
    except (OSError, ValueError, struct.error):
        pass
    return None


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _count(file: BinaryIO, form: str = "<Q") -> int:
    return _unpack(file, form)[0]


def _read_value(file: BinaryIO, kind: int) -> object:
    """Return a text or a number. A list is passed over."""
    if kind == _TEXT:
        return _read_text(file, _count(file))
    if kind != _LIST:
        return _unpack(file, _form(kind))[0]
    inner, items = _count(file, "<I"), _count(file)
    if items > MOST_ITEMS:
        raise ValueError("The list is too long.")
    if inner == _TEXT:
        for _ in range(items):
            _skip(file, _count(file))
    elif inner == _LIST:
        raise ValueError("Lists of lists are not read.")
    else:
        _skip(file, items * struct.calcsize(_form(inner)))
    return None


def _form(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError("The kind of a value is not known.")
    return _NUMBERS[kind]


def _read_text(file: BinaryIO, length: int) -> str:
    if length > MOST_TEXT:
        _skip(file, length)
        return ""
    return file.read(length).decode("utf-8", "replace")


def _skip(file: BinaryIO, length: int) -> None:
    """Pass over bytes. Raises ValueError beyond the bound of a header."""
    if file.tell() + length > MOST_BYTES:
        raise ValueError("The header is too long.")
    file.seek(length, 1)
