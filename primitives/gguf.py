"""The header of a GGUF file, read as far as it tells the model's context. Any file may be given: all is bounded."""

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

MOST_KEYS = 10_000
MOST_ITEMS = 2_000_000  # of all lists together: vocabularies have hundreds of thousands
MOST_BYTES = 256 << 20  # of a header
MOST_TEXT = 1 << 20  # bytes of a key, or of a text that is kept
_TEXT, _LIST = 8, 9
_ARCHITECTURE, _CONTEXT = "general.architecture", ".context_length"
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
    """Return the longest input in tokens that a GGUF file names, or None if it names none or is not one.

    A file that stayed as it was is read once.
    """
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return _read_context(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _read_context(path: Path, _changed: int, _size: int) -> int | None:
    """Read the context from a file in this state."""
    try:
        with path.open("rb") as file:
            return _Header(file).find_context()
    except (OSError, ValueError, struct.error):
        return None


class _Header:
    """A header that is read from its beginning, within one budget of bytes and one of items of lists."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._items_left = MOST_ITEMS

    def find_context(self) -> int | None:
        """Return the context. Raises ValueError or struct.error for a header that cannot be read as far as that."""
        if self._file.read(4) != b"GGUF":
            return None
        architecture: object = None
        contexts: dict[str, object] = {}
        _version, _tensors, keys = self._unpack("<IQQ")
        for _ in range(min(keys, MOST_KEYS)):
            name = self._read_text()
            value = self._read_value(self._count("<I"))
            if name == _ARCHITECTURE:
                architecture = value
            elif name.endswith(_CONTEXT):
                contexts[name] = value
            context = contexts.get(f"{architecture}{_CONTEXT}")
            if isinstance(context, int) and not isinstance(context, bool):
                return context if context > 0 else None
        return None

    def _read_value(self, kind: int) -> object:
        """Return a text or a number. A list is passed over."""
        if kind == _TEXT:
            return self._read_text()
        if kind != _LIST:
            return self._unpack(_form(kind))[0]
        inner, items = self._count("<I"), self._count()
        self._items_left -= items
        if self._items_left < 0:
            raise ValueError("The lists are too long.")
        if inner == _TEXT:
            for _ in range(items):
                self._skip(self._count())
        elif inner == _LIST:
            raise ValueError("Lists of lists are not read.")
        else:
            self._skip(items * struct.calcsize(_form(inner)))
        return None

    def _read_text(self) -> str:
        length = self._count()
        if length > MOST_TEXT:
            self._skip(length)
            return ""
        self._check_room(length)
        return self._file.read(length).decode("utf-8", "replace")

    def _unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._file.read(struct.calcsize(form)))

    def _count(self, form: str = "<Q") -> int:
        return self._unpack(form)[0]

    def _skip(self, length: int) -> None:
        self._check_room(length)
        self._file.seek(length, 1)

    def _check_room(self, length: int) -> None:
        """Raise ValueError for bytes beyond the bound of a header."""
        if self._file.tell() + length > MOST_BYTES:
            raise ValueError("The header is too long.")


def _form(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError("The kind of a value is not known.")
    return _NUMBERS[kind]
