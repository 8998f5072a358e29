"""Text that a database and UTF-8 can hold."""

import re

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL holds no NUL, UTF-8 no half of a surrogate pair
_HALF = re.compile("[\ud800-\udfff]")
# Of two parts or more, and no part of an address.
_PATH = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/'\"]+/)+([^\s/'\"]+)/?")


def is_storable(text: str) -> bool:
    """Return whether a database and UTF-8 can hold `text`."""
    if text.isascii():  # several times as fast as a look at each character
        return "\0" not in text
    return UNSTORABLE.search(text) is None


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can hold `text`: it has no half of a surrogate pair."""
    return _HALF.search(text) is None


def make_storable(text: str) -> str:
    """Return `text` without NULs, and with a question mark for each half of a surrogate pair."""
    return _HALF.sub("?", text).replace("\0", "")


def printable(text: str, most: int = 80) -> str:
    """Return `text` for a message: shortened, with the code points of characters that cannot be printed."""
    shown = "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text[:most]
    )
    return f"{shown}…" if len(text) > most else shown


def without_folders(text: str, *known: str) -> str:
    """Return `text` with the last part of each absolute path in its place, for readers who may not know the folders.

    `known` are paths that may be named, which may hold blanks.
    """
    for path in sorted({one.rstrip("/") for one in known} - {""}, key=len, reverse=True):
        name = path.rpartition("/")[2].replace("\\", r"\\")
        text = re.sub(rf"(?<![\w./~-]){re.escape(path)}(?![\w-]|\.\w)", name, text)
    return _PATH.sub(r"\1", text)


def marked(text: str) -> str:
    """Return `text`, which is marked for translation here and translated where it is shown.

    Import it as `_`, the name that the collector of texts looks for.
    """
    return text
