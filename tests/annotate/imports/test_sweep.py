"""Old files of imports are deleted now and then, at a cost that no upload and no single statement bears."""

import os
from typing import Any

from django.core.files.base import ContentFile
from django.db import connection

from annotate import tasks
from annotate.imports.files import reception
from annotate.models import Import

OTHERS = 2_500


def test_a_sweep_asks_for_some_names_at_a_time(project: Any, owner: Any) -> None:
    """PostgreSQL takes 65,535 values in a statement: every upload failed once there were as many files."""
    sizes: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sizes.append(len(params or ()))
        return execute(sql, params, many, context)

    storage = Import._meta.get_field("file").storage
    upload = reception.receive(project, owner, ContentFile(b'{"prompt": "Q"}\n', name="a.jsonl"))
    for number in range(OTHERS):
        os.utime(storage.path(storage.save(f"{reception.FOLDER}{number}.jsonl", ContentFile(b""))), (0, 0))
    os.utime(storage.path(upload.file.name), (0, 0))
    with connection.execute_wrapper(count):
        tasks.sweep_exports()
    assert max(sizes) <= 1_000
    left = storage.listdir(reception.FOLDER)[1]
    assert len(left) < OTHERS
    assert upload.file.name.removeprefix(reception.FOLDER) in left


def test_an_upload_looks_at_no_other_file(project: Any, owner: Any) -> None:
    storage = Import._meta.get_field("file").storage
    other = storage.save(f"{reception.FOLDER}other.jsonl", ContentFile(b""))
    asked: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.extend(map(str, params or ()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        reception.receive(project, owner, ContentFile(b'{"prompt": "Q"}\n', name="a.jsonl"))
    assert other not in asked
