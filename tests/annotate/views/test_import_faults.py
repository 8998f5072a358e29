"""Imports when things go wrong: a full disk, a broken one, a row that the database refuses, files left behind."""

import errno
import math
import os
import time
from contextlib import contextmanager

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, connection

from annotate.imports import records, uploads, writing
from annotate.imports.files import reception
from annotate.models import Import, Prompt
from annotate.storage_errors import StorageError
from tests.annotate.views.uploading import URL, jsonl, pair
from tests.storages import FullStorage, HalfStorage

pytestmark = pytest.mark.once


class BrokenStorage(FileSystemStorage):
    """A disk that takes files and gives none back."""

    def _open(self, name, mode="rb"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class ForgottenOnAFullDisk(FullStorage):
    """A disk without room for a file whose import is forgotten at the same moment."""

    def _save(self, name, content):
        Import.objects.all().delete()
        return super()._save(name, content)


def test_a_full_disk_is_told_and_leaves_no_torn_file(project, owner, client_for, use_storage):
    folder = use_storage(FullStorage) / "imports"
    data = {"file": SimpleUploadedFile("rows.jsonl", jsonl(pair(1))), "format": ""}
    answer = client_for(owner).post(URL, data)
    assert answer.status_code == 507
    assert "The server’s disk is full." in answer.content.decode()
    assert 'id="id_file_error"' in answer.content.decode()
    assert not list(folder.iterdir())
    assert not Import.objects.exists()


def test_half_an_upload_is_refused_and_not_kept(project, owner, client_for, use_storage):
    folder = use_storage(HalfStorage) / "imports"
    data = {"file": SimpleUploadedFile("rows.jsonl", jsonl(pair(1), pair(2))), "format": ""}
    answer = client_for(owner).post(URL, data)
    assert answer.status_code == 507
    assert "the storage does not have what was put there" in answer.content.decode()
    assert not list(folder.iterdir())
    assert not Import.objects.exists()


def test_another_encoding_on_a_full_disk_leaves_no_torn_file(project, owner, use_storage):
    folder = use_storage() / "imports"
    content = "prompt,chosen,rejected\nkawa,żółć,łoś\n".encode("cp1250")
    upload = reception.receive(project, owner, SimpleUploadedFile("rows.csv", content), encoding="cp1250")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    use_storage(FullStorage)
    with pytest.raises(StorageError, match="disk is full"):
        reception.read_otherwise(Import.objects.get(pk=upload.pk), encoding="iso8859-2")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("storage", "status"), [(FullStorage, 507), (ForgottenOnAFullDisk, 404)])
def test_another_encoding_on_a_full_disk_is_told(project, owner, client_for, use_storage, storage, status):
    use_storage()
    content = "prompt,chosen,rejected\nkawa,żółć,łoś\n".encode("cp1250")
    upload = reception.receive(project, owner, SimpleUploadedFile("rows.csv", content), encoding="cp1250")
    uploads.work(upload.pk, 60)
    use_storage(storage)
    answer = client_for(owner).post(f"{URL}{upload.pk}/check/", {"encoding": "iso8859-2"})
    assert answer.status_code == status
    assert status == 404 or Import.objects.get().options["encoding"] == "cp1250"


def test_an_unexpected_error_ends_an_import_with_a_sentence(project, owner, client_for, use_storage, caplog):
    use_storage(BrokenStorage)
    data = {"file": SimpleUploadedFile("rows.jsonl", jsonl(pair(1))), "format": ""}
    page = client_for(owner).post(URL, data, follow=True)
    made = Import.objects.get()
    assert (made.state, bool(made.finished_at)) == (Import.State.REFUSED, True)
    assert b"Something went wrong on the server" in page.content
    assert "Input/output error" in caplog.text


@pytest.mark.once  # PostgreSQL cannot be told to be full
# A full SQLite rolls back all of a transaction, and the test's own with it.
@pytest.mark.django_db(transaction=True)
def test_a_database_without_room_keeps_the_import_waiting(owner, upload, client_for, limited_database):
    _page, made = upload(jsonl(*({"prompt": f"{number} " + "x" * 50_000} for number in range(30))))
    uploads.start(made)
    client = client_for(owner)
    with limited_database():
        answer = client.post(f"{URL}{made.pk}/")
        assert answer.status_code == 507
        assert "The server’s disk is full." in answer.content.decode()
        fragment = client.post(f"{URL}{made.pk}/", headers={"HX-Request": "true"})
        assert b"disk is full" in fragment.content
        assert b"hx-trigger" not in fragment.content
    made.refresh_from_db()
    assert (made.state, made.position) == (Import.State.RUNNING, 0)
    client.post(f"{URL}{made.pk}/")
    assert Prompt.objects.count() == 30


@pytest.fixture
def limited_database():
    """Use a database file that cannot grow, as on a full disk."""

    @contextmanager
    def limited():
        with connection.cursor() as cursor:
            [pages] = cursor.execute("PRAGMA page_count").fetchone()
            cursor.execute(f"PRAGMA max_page_count = {pages}")
            try:
                yield
            finally:
                cursor.execute("PRAGMA max_page_count = 4294967294")

    return limited


def test_a_row_that_the_database_refuses_is_never_passed_over(project):
    items = [records.Item(prompt="one", prompt_metadata={"x": math.inf}), records.Item(prompt="two")]
    with pytest.raises(DatabaseError):
        writing.write(project, list(enumerate(items)))
    assert not Prompt.objects.exists()


def test_files_that_no_import_names_are_swept_after_a_day(project, owner, use_storage):
    folder = use_storage() / "imports"
    made = reception.receive(project, owner, ContentFile(b"a prompt", "a.txt"), "txt")
    for name, age in (("old.txt", 2), ("fresh.txt", 0)):
        (folder / name).write_bytes(b"torn")
        os.utime(folder / name, (time.time() - age * 86_400,) * 2)
    kept = folder.parent / made.file.name
    os.utime(kept, (time.time() - 3 * 86_400,) * 2)
    reception.sweep()
    assert not (folder / "old.txt").exists()
    assert (folder / "fresh.txt").exists()
    assert kept.exists()


@pytest.mark.parametrize("moment", ["before a step", "after a step"])
def test_an_import_forgotten_meanwhile_is_not_found(project, owner, client_for, monkeypatch, moment):
    upload = reception.receive(project, owner, ContentFile(jsonl(pair(1)), "rows.jsonl"))
    step = uploads.work

    def work(import_id, seconds):
        if moment == "after a step":
            step(import_id, seconds)
        Import.objects.filter(pk=import_id).delete()
        return step(import_id, seconds) if moment == "before a step" else None

    monkeypatch.setattr(uploads, "work", work)
    assert client_for(owner).post(f"{URL}{upload.pk}/").status_code == 404
