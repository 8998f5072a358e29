"""Old files of imports are deleted now and then, at a cost that no upload and no single statement bears."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.utils import timezone

from annotate import tasks
from annotate.imports import uploads
from annotate.imports.files import options, reception
from annotate.models import Import

OTHERS = 2_500
TURNED = "prompt,completion_a,completion_b\nQ,é,e\n".encode("utf-16")  # into lines of UTF-8, beside what came


@pytest.fixture
def storage(settings: Any, tmp_path: Path) -> Any:
    """Return the storage of uploads, which has none yet."""
    settings.MEDIA_ROOT = tmp_path
    return Import._meta.get_field("file").storage


@pytest.fixture
def turned(project: Any, owner: Any, storage: Any) -> Import:
    """Return an old upload of two files: the one that came, and its lines."""
    upload = reception.receive(project, owner, ContentFile(TURNED, name="a.csv"))
    assert upload.original.name
    age(storage, upload.file.name, upload.original.name)
    return upload


def age(storage: Any, *names: str) -> None:
    for name in names:
        os.utime(storage.path(name), (0, 0))


def left(storage: Any) -> set[str]:
    return {f"{reception.FOLDER}{name}" for name in storage.listdir(reception.FOLDER)[1]}


def sweep_and_meet(met: Callable[[str], bool], meet: Callable[[], object]) -> None:
    """Sweep, and have `meet` happen once, right after the first statement that is `met`."""
    done: list[str] = []

    def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = run(sql, params, many, context)
        if met(sql) and not done:
            done.append(sql)
            meet()
        return found

    with connection.execute_wrapper(execute):
        tasks.sweep_exports()
    assert done


def test_a_sweep_asks_for_some_names_at_a_time(
    project: Any, owner: Any, turned: Import, storage: Any
) -> None:
    """PostgreSQL takes 65,535 values in a statement: every upload failed once there were as many files."""
    sizes: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sizes.append(len(params or ()))
        return execute(sql, params, many, context)

    upload = reception.receive(project, owner, ContentFile(b'{"prompt": "Q"}\n', name="a.jsonl"))
    for number in range(OTHERS):
        age(storage, storage.save(f"{reception.FOLDER}{number}.jsonl", ContentFile(b"")))
    young = storage.save(f"{reception.FOLDER}young.jsonl", ContentFile(b""))  # its upload may be under way
    age(storage, upload.file.name)
    with connection.execute_wrapper(count):
        tasks.sweep_exports()
    assert max(sizes) <= 1_000
    assert left(storage) == {upload.file.name, turned.file.name, turned.original.name, young}


def test_a_file_stays_whichever_column_names_it(turned: Import, storage: Any) -> None:
    """Reading a file otherwise moves its name from one column to the other."""
    name = turned.original.name
    rows = Import.objects.filter(pk=turned.pk)
    sweep_and_meet(lambda sql: '"file" IN' in sql, lambda: rows.update(file=name, original=""))
    assert storage.exists(name)


@pytest.mark.django_db
def test_a_file_that_vanishes_does_not_end_a_sweep(storage: Any, monkeypatch: Any) -> None:
    """Another sweep or a cancelled import may delete what was listed."""
    names = {storage.save(f"{reception.FOLDER}{number}.jsonl", ContentFile(b"")) for number in range(5)}
    age(storage, *names)
    told = storage.get_modified_time

    def tell(name: str) -> Any:
        for one in sorted(names - {name})[:1]:
            Path(storage.path(one)).unlink(missing_ok=True)
        return told(name)

    monkeypatch.setattr(storage, "get_modified_time", tell)
    tasks.sweep_exports()
    assert left(storage) == set()


def refuse(upload: Import) -> None:
    """Have an upload end as one of which no row could be used, longer ago than its files are kept."""
    long_ago = timezone.now() - reception.REFUSED_KEPT - timedelta(days=1)
    Import.objects.filter(pk=upload.pk).update(
        state="refused", counts={"rows": 1}, finished_at=long_ago, created_at=long_ago
    )
    upload.refresh_from_db()


def test_the_files_of_a_refused_import_go(turned: Import, storage: Any) -> None:
    refuse(turned)
    assert uploads.takes_options(turned)
    tasks.sweep_exports()
    assert left(storage) == set()
    before = Import.objects.filter(pk=turned.pk).values().get()
    assert (before["file"], before["original"]) == ("", "")
    # A page that was open meanwhile.
    assert not uploads.check_again(turned, options.Options.of(turned))
    assert Import.objects.filter(pk=turned.pk).values().get() == before
    turned.refresh_from_db()
    assert not uploads.takes_options(turned)


def test_an_import_that_is_read_again_keeps_its_files(turned: Import, storage: Any) -> None:
    """An admin chose other options between the sweep's look at the refused imports and its deletion."""
    refuse(turned)
    names = {turned.file.name, turned.original.name}
    chosen = options.Options.of(turned)
    sweep_and_meet(
        lambda sql: sql.startswith("SELECT") and '"annotate_import"."finished_at" <' in sql,
        lambda: uploads.check_again(turned, chosen),
    )
    turned.refresh_from_db()
    assert (turned.state, {turned.file.name, turned.original.name}) == ("checking", names)
    assert left(storage) == names


def test_an_upload_looks_at_no_other_file(project: Any, owner: Any, storage: Any) -> None:
    other = storage.save(f"{reception.FOLDER}other.jsonl", ContentFile(b""))
    asked: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.extend(map(str, params or ()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        reception.receive(project, owner, ContentFile(b'{"prompt": "Q"}\n', name="a.jsonl"))
    assert other not in asked
