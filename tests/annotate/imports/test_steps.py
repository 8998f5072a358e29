"""A file is worked through in bounded steps, and the base64 of its images is counted apart from its texts."""

import io
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from annotate.imports import records
from annotate.imports.files import reception, whole
from annotate.imports.files.options import Options
from annotate.imports.reader import Reader, RowError, guess_format
from annotate.imports.records import parse
from annotate.models import Import, Project
from tests.annotate.imports.rows import PAIR, jsonl, text

# --- In steps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("jsonl", '{"prompt": "One"}\n\n{"prompt": "Two"}\n{"prompt": "Thrée"}'),
        ("csv", 'prompt,id\nOne,1\n"Two\nlines",2\nThrée,3\n'),
        ("txt", "One\nTwo\n\nThrée\n"),
    ],
)
def test_reading_goes_on_where_another_reader_stopped(format, content):
    whole = list(Reader(text(content), format))
    assert len(whole) == 3
    found, position, line = [], 0, 0
    while True:
        reader = Reader(text(content), format, position, line)
        step = next(iter(reader), None)
        if step is None:
            break
        found.append(step)
        position, line = reader.position, reader.line
    assert found == whole
    assert position == len(content.encode())


def test_memory_does_not_grow_with_the_file(project):
    class Generated(io.RawIOBase):
        """As many lines as asked for, made as they are read."""

        def __init__(self, count: int) -> None:
            self.count = count
            self.seek(0)

        def make(self, count: int) -> Iterable[bytes]:
            return (f"Prompt {number} ".encode() + b"x" * 500 + b"\n" for number in range(count))

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, position: int, whence: int = 0) -> int:
            self.rows, self.rest, self.at = self.make(self.count), b"", 0
            return 0

        def readinto(self, buffer: Any) -> int:
            self.rest = self.rest or next(iter(self.rows), b"")
            count = min(len(buffer), len(self.rest))
            buffer[:count], self.rest = self.rest[:count], self.rest[count:]
            self.at += count
            return count

    def peak(count: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in Reader(io.BufferedReader(Generated(count)), "txt")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(5_000) < 1.5 * peak(500)


def test_formats_are_guessed_by_the_name():
    names = ("a.jsonl", "b.NDJSON", "c.csv", "d.txt", "e")
    assert [guess_format(name) for name in names] == ["jsonl", "jsonl", "csv", "txt", "txt"]
    with pytest.raises(ValueError, match="format must be one of"):
        Reader(text(""), "xlsx")


def test_counts_are_what_a_file_holds(project):
    rows = [PAIR, {**PAIR, "gold": "a"}, {"prompt": "One"}]
    report = whole.check_file(project, jsonl(*rows), "jsonl", Options())
    assert report.check.found == Counter(pairs=1, gold=1, prompts=1)
    assert parse({"prompt": " kept as it is "}).prompt == " kept as it is "


# --- Images in texts ---------------------------------------------------------------------------------------------

IMAGE = "![chart](data:image/png;base64,{})"


@pytest.mark.parametrize("key", ["completion_a", "prompt", "chat"])
def test_the_base64_of_an_image_is_not_counted_as_text(key):
    def row(text):
        value = [{"role": "user", "content": text}] if key == "chat" else text
        return {
            "prompt": "Q",
            "completion_a": "a",
            "completion_b": "b",
            "prompt" if key == "chat" else key: value,
        }

    large = IMAGE.format("QUJD" * 200_000)
    assert records.parse(row(f"What is {large}?"))
    for long in (large + "x" * 100_000, "y" * 5_000_000, IMAGE.format("QUJD" * 2_000_000)):
        with pytest.raises(RowError, match="at most 100,000 are taken"):
            records.parse(row(long))


def test_a_refused_file_is_deleted_after_a_month(project: Project, owner: Any) -> None:
    upload = reception.receive(project, owner, ContentFile(b'{"prompt": ""}\n', name="a.jsonl"))
    for days, is_kept in ((29, True), (31, False)):
        then = timezone.now() - timedelta(days=days)
        Import.objects.update(state=Import.State.REFUSED, finished_at=then)
        reception.sweep()
        assert upload.file.storage.exists(upload.file.name) == is_kept
    assert not Import.objects.get().file


def test_a_file_with_a_nul_is_stored_and_refused(project: Project, owner: Any) -> None:
    """Its first lines are shown, and PostgreSQL holds no NUL."""
    upload = reception.receive(
        project, owner, ContentFile("é\0, prompt\nÄ\0,b\n".encode("cp1252"), name="a.csv")
    )
    assert "\0" not in str(upload.options["sample"])
    assert Import.objects.get().options == upload.options
