"""Every format of a varied project is, byte for byte, what it was when `golden.json` was written.

Run with WHETSTONE_WRITE_GOLDEN=1 to rewrite the file when a format is meant to change.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from annotate.errors import RefusalError
from annotate.exports.bundle import open_download
from annotate.exports.formats import FORMATS
from annotate.forms.exports import read_selection
from annotate.pairs.pair_rows import PAIR_COLUMNS
from annotate.pairs.streams import hasty
from tests.annotate.exports.varied import CHATS, ODD, PLAIN, freeze, make_varied_project

GOLDEN = Path(__file__).parent / "golden.json"
TODAY = re.compile(rb"(?<=Exported on )\d{4}-\d\d-\d\d|(?<=-)\d{4}(?=,\n)|(?<=year = {)\d{4}")
PAIRS = [name for name, one in FORMATS.items() if one.columns == PAIR_COLUMNS]
QUERIES: list[dict[str, str]] = [
    *({"format": name, "batch": batch} for name in FORMATS for batch in (PLAIN, CHATS, ODD)),
    *({"format": name, "texts": "text"} for name in FORMATS),
    *({"format": name, "texts": "messages", "ties": "include"} for name in FORMATS),
    *({"format": name, "texts": "text", "columns": "texts", "test": "30"} for name in PAIRS),
    *({"format": name, "texts": "files", "held_out": "include"} for name in PAIRS),
    *({"format": name, "batch": PLAIN, "snapshot": "ab" * 6, "texts": "text"} for name in PAIRS),
    *({"format": name, "snapshot": "ab" * 6, "held_out": "include"} for name in ("jsonl", "kto", "openai")),
    *(
        {"format": name, "texts": "text", "test": "20", "validation": "30", "parts": parts}
        for name in ("parquet", "csv", "datasets", "comparisons")
        for parts in ("column", "files")
    ),
    {"format": "csv", "batch": PLAIN, "cells": "safe"},
    {"format": "judgments_csv", "cells": "safe"},
    {"format": "jsonl", "batch": PLAIN, "votes": "reliability", "gold": "include"},
    {"format": "jsonl", "batch": PLAIN, "smoothing": "0.5", "weights": "judgments", "too_fast": "leave"},
]


def test_every_format_is_what_it_was(db):
    assert_golden()


@pytest.mark.django_db(transaction=True)
def test_texts_that_are_read_ahead_are_the_same():
    """As a site's are: a transaction reads nothing ahead."""
    assert_golden()


@pytest.mark.django_db(transaction=True)
def test_rows_of_statements_that_stay_open_are_the_same():
    """As a task reads them."""
    with hasty():
        assert_golden()


def assert_golden() -> None:
    project = make_varied_project()
    freeze(project)
    found = {json.dumps(query): fingerprint(project, query) for query in QUERIES}
    if "WHETSTONE_WRITE_GOLDEN" in os.environ:
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(GOLDEN.read_text())


def fingerprint(project: Any, query: dict[str, str]) -> str:
    """Return the SHA-256 of a file, or why there is none."""
    try:
        download = open_download(read_selection(project, query))
    except RefusalError as refused:
        return refused.message
    return digest(download.filename, b"".join(download.chunks))


def digest(name: str, data: bytes) -> str:
    """Hash a file; a zip by its members, Parquet by its schema and rows, and a card without the day."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [f"{member} {digest(member, archive.read(member))}" for member in archive.namelist()]
        data = "\n".join(members).encode()
    elif name.endswith(".parquet"):
        data = as_text(data)
    elif name.endswith(".md"):
        data = TODAY.sub(b"-", data)
    return hashlib.sha256(data).hexdigest()


def as_text(parquet: bytes) -> bytes:
    """Return the schema, the rows, and the numbers of rows of the groups of a file of Parquet."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(parquet))
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    return json.dumps([str(file.schema_arrow), groups, file.read().to_pylist()]).encode()
