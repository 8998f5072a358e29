"""The kind of a file, told by its content first and by its name second."""

import json
import re
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.sources import compression
from annotate.sources.documents import explain_table, list_inside, rows_of_columns
from annotate.sources.errors import FileError
from annotate.sources.tables import find_separator

TEXTS = ("jsonl", "json", "csv", "txt")  # that have an encoding
TEXT_TABLES = ("csv", "xlsx")  # whose cells are texts alone: a list is several values under one name
TABLES = ("csv", "parquet", "xlsx")  # whose texts are the cells of a table
HEAD = 64 * 1024  # bytes looked at
LINE = 8 * 1024 * 1024  # of a first line, looked at
SUFFIXES = {
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "csv": "csv", "tsv": "csv", "tab": "csv",
    "parquet": "parquet", "pq": "parquet", "xlsx": "xlsx", "xlsm": "xlsx", "txt": "txt", "text": "txt", "md": "txt",
}  # fmt: skip
PACKED = ("gz", "zst", "zip")

# Names that make the first line of a text file the header of a table.
COLUMNS = frozenset((
    "prompt", "instruction", "question", "chosen", "rejected", "completion_a", "completion_b", "response_a",
    "response_b", "completion", "response", "output", "input", "messages", "answer_a", "answer_b", "policy_a",
    "policy_b", "gold", "preference",
))  # fmt: skip
STRANGERS = (
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel 97 (.xls)"),
    (0, b"%PDF", "PDF"),
    (0, b"SQLite format 3\0", "SQLite"),
    (0, b"ARROW1", "Arrow"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "RAR"),
    (257, b"ustar", "tar"),
)
POINTER = b"version https://git-lfs.github.com/spec/"
_LIST_OF_OBJECTS = re.compile(r'\[\s*(?:[\[{"\]]|$)')


def name_suffix(name: str) -> str:
    """Return the kind that a file's name suggests, without .gz and the like; empty if none."""
    parts = name.rpartition("/")[2].lower().split(".")[1:]
    if parts and parts[-1] in PACKED:
        parts.pop()
    return SUFFIXES.get(parts[-1], "") if parts else ""


def find_binary(file: BinaryIO) -> str:
    """Return parquet or xlsx, or an empty text for a text. Raises FileError for what is neither."""
    file.seek(0)
    head = file.read(512)
    if head.startswith(b"PAR1"):
        return "parquet"
    if compression.find_compression(head) == "zip" and compression.is_xlsx(file):
        return "xlsx"
    if head.startswith(POINTER):
        raise FileError(
            _("The file is a pointer of Git LFS to the data. Fetch the data itself (git lfs pull).")
        )
    for at, start, name in STRANGERS:
        if head[at:].startswith(start):
            raise FileError(
                _(
                    "The file is %(kind)s, which is not read here. Save it as JSON Lines, JSON, CSV, XLSX, Parquet or "
                    "text; it may be packed as .gz, .zst or .zip."
                )
                % {"kind": name}
            )
    return ""


def find_text_container(head: str, first_line: str, is_one_line: bool, suffix: str) -> str:
    """Return jsonl, json, csv or txt for a text that begins with `head`, with one line of a record or more."""
    begin = head.lstrip("\ufeff \t\r\n")
    if begin.startswith("{"):
        return _of_object(begin, first_line, is_one_line, suffix)
    if begin.startswith("[") and suffix in ("", "json", "jsonl") and _LIST_OF_OBJECTS.match(begin):
        return "json"
    if begin.startswith("[") and re.match(r"\[\s*\{", begin):
        return "json"
    if suffix in ("jsonl", "csv"):
        return suffix
    if suffix == "json":
        return "json" if not _is_table(head) else "csv"
    return "csv" if _is_table(head) else "txt"


def _of_object(begin: str, first_line: str, is_one_line: bool, suffix: str) -> str:
    first = _parse(first_line)
    if isinstance(first, dict):
        if not is_one_line or suffix == "jsonl":
            return "jsonl"
        return "json" if list_inside(first) or rows_of_columns(first) or explain_table(first) else "jsonl"
    if suffix == "json" or (
        suffix != "jsonl" and re.match(r'\{\s*["}]', begin) and suffix not in ("csv", "txt")
    ):
        return "json"
    if suffix == "txt" and re.match(r'\{[^\S\n]*+\n\s*+"', begin):
        return "json"
    return suffix or "txt"


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_table(head: str) -> bool:
    """Return whether the first line names columns, at least one of which is known."""
    separator = find_separator(head, COLUMNS)
    first = head.lstrip("\ufeff \t\r\n").splitlines()[:1]
    if not separator or not first:
        return False
    names = [name.strip(' "').casefold() for name in first[0].split(separator)]
    return first[0].startswith("sep=") or (len(names) > 1 and bool(COLUMNS & set(names)))
