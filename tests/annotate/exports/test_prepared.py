"""Prepared files on slow and full storages, and of writers that were killed: none is torn, doubled or stuck."""

import io
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from typing import ClassVar

import pytest
from celery import current_app
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.utils import timezone

from annotate import attempts, tasks, unnamed_files
from annotate.exports import jobs, prepared
from annotate.forms.exports import ExportForm, read_selection
from annotate.models import Export, Project
from annotate.models.jobs import LostError
from annotate.storage_errors import StorageError
from annotate.unnamed_files import drop_unnamed
from tests.annotate.exports.test_jobs import PREPARE, prepare
from tests.storages import FullStorage, HalfStorage, HangingStorage
from tests.waiting import wait_for

pytestmark = pytest.mark.once


class SlowStorage(FileSystemStorage):
    """A storage that has written a part, and waits for `go` to write the rest."""

    go = threading.Event()

    def _save(self, name, content):
        saved = super()._save(name, ContentFile(b"a part"))
        assert self.go.wait(20)
        with self.open(saved, "wb") as file:
            file.write(content.read())
        return saved


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(prepared, "BEAT_SECONDS", 0.01)
    SlowStorage.go.clear()


def test_a_writer_is_alive_while_a_slow_storage_takes_its_file(use_storage):
    folder, beats = use_storage(SlowStorage) / "exports", []

    def beat():
        beats.append(1)
        if len(beats) == 3:
            SlowStorage.go.set()

    name = prepared.store_file(Export(), "exports/one", io.BytesIO(b"x"), beat)
    assert (name, len(beats) >= 3) == ("exports/one", True)
    assert [path.name for path in folder.iterdir()] == ["one"]


def test_what_is_cancelled_while_it_is_stored_leaves_no_file(use_storage):
    folder = use_storage(SlowStorage) / "exports"

    def beat():
        wait_for((folder / "one").exists)
        SlowStorage.go.set()
        raise LostError

    with pytest.raises(LostError):
        prepared.store_file(Export(), "exports/one", io.BytesIO(b"x"), beat)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("is_lost", [True, False], ids=["replaced", "alone"])
def test_a_storage_that_hangs_holds_no_writer(use_storage, monkeypatch, is_lost):
    folder = use_storage(HangingStorage) / "exports"
    monkeypatch.setattr(prepared, "LONGEST_SECONDS", 0.1)
    monkeypatch.setattr(prepared, "LEFT_ALONE_SECONDS", 0.1)
    HangingStorage.go.clear()

    def beat():
        wait_for((folder / "one").exists)
        if is_lost:
            raise LostError

    try:
        with pytest.raises(LostError if is_lost else StorageError):
            prepared.store_file(Export(), "exports/one", io.BytesIO(b"x"), beat)
    finally:
        HangingStorage.go.set()
    wait_for(lambda: not list(folder.iterdir()))  # the thread that was left alone tidies up


class PacedStorage(FileSystemStorage):
    """A storage that takes a byte at a time."""

    def _save(self, name, content):
        return super()._save(name, ContentFile(b"".join(self.read(content))))

    def read(self, content):
        while byte := content.read(1):
            time.sleep(0.1)
            yield byte


def test_a_slow_storage_that_takes_bytes_does_not_hang(use_storage, monkeypatch):
    use_storage(PacedStorage)
    monkeypatch.setattr(prepared, "LONGEST_SECONDS", 1.0)
    assert prepared.store_file(Export(), "exports/one", io.BytesIO(b"x" * 20), lambda: None) == "exports/one"


class AwayStorage(FileSystemStorage):
    """A storage that opens nothing."""

    def _open(self, name, mode="rb"):
        raise TimeoutError(110, "the storage took too long", name)


def test_a_file_that_is_there_and_cannot_be_read_is_told_as_that(plain, researcher, client_for, use_storage):
    client = client_for(researcher)
    use_storage(AwayStorage)
    job = prepare(client)
    jobs.write(str(job.pk), read_selection)
    answer = client.get(f"/p/reviews/export/jobs/{job.pk}/file/")
    assert (
        "does not give this file now: the storage took too long. Try again later." in answer.content.decode()
    )
    job.refresh_from_db()
    job.file.delete(save=False)
    use_storage()
    answer = client.get(f"/p/reviews/export/jobs/{job.pk}/file/")
    assert (answer.status_code, "is no longer in the server’s storage" in answer.content.decode()) == (
        404,
        True,
    )


def test_half_a_file_is_no_file(plain, researcher, client_for, use_storage):
    folder = use_storage(HalfStorage) / "exports"
    job = prepare(client_for(researcher))
    jobs.write(str(job.pk), read_selection)
    job.refresh_from_db()
    assert (job.state, "does not have what was put there" in job.error) == ("failed", True)
    assert not list(folder.iterdir())


STOPPING = """
import io, sys, threading, time
from types import SimpleNamespace
import django
django.setup()
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from annotate.exports.prepared import store_file

class Endless(FileSystemStorage):
    def _save(self, name, content):
        time.sleep(600)

def store(storage, name):
    row = SimpleNamespace(file=SimpleNamespace(storage=storage(location=sys.argv[1])))
    print(store_file(row, name, io.BytesIO(b"x"), lambda: None), flush=True)

def store_late():
    threading.main_thread().join()
    store(FileSystemStorage, "late")

threading.Thread(target=store, args=(Endless, "never"), daemon=True).start()
threading.Thread(target=store_late).start()
"""


def test_a_server_that_stops_waits_for_no_storage(tmp_path):
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "late\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["late"]


def test_a_full_disk_is_told_and_leaves_no_torn_file(plain, researcher, client_for, use_storage):
    folder = use_storage(FullStorage) / "exports"
    job = prepare(client_for(researcher))
    jobs.write(str(job.pk), read_selection)
    job.refresh_from_db()
    assert (job.state, "The server’s disk is full." in job.error) == ("failed", True)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_lost_job_goes_on_even_if_its_page_is_closed(
    plain, researcher, client_for, settings, tmp_path, django_capture_on_commit_callbacks, state
):
    settings.MEDIA_ROOT = tmp_path
    job = prepare(client_for(researcher))
    sent = []
    jobs.look_after_all(sent.append)
    assert not sent
    long_ago = timezone.now() - 2 * attempts.SILENCE
    Export.objects.update(state=state, attempt=state == "running", heard_at=long_ago)
    with django_capture_on_commit_callbacks(execute=True):
        jobs.look_after_all(sent.append)
        jobs.look_after_all(sent.append)
    assert sent == [str(job.pk)]
    tasks.write_export(*sent)
    job.refresh_from_db()
    assert job.state == "done"


def test_jobs_that_were_lost_do_not_keep_others_waiting_for_ever(plain, researcher, client_for):
    client = client_for(researcher)
    for _ in range(jobs.LIVE_AT_MOST):
        prepare(client)
    long_ago = timezone.now() - 2 * attempts.SILENCE
    Export.objects.update(state="running", attempt=attempts.ATTEMPTS, heard_at=long_ago)
    assert client.post(PREPARE, {}).status_code == 302
    assert set(Export.objects.values_list("state", flat=True)) == {"failed", "queued"}


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (0, "No worker took it. Ask for it again."),
        (1, "It was begun, and never ended. Ask for it again."),
    ],
)
def test_a_job_that_waits_for_days_ends(plain, researcher, client_for, attempt, sentence):
    job = prepare(client_for(researcher))
    Export.objects.update(created_at=timezone.now() - 2 * jobs.KEPT, attempt=attempt)
    sent = []
    jobs.look_after_all(sent.append)
    job.refresh_from_db()
    assert (job.state, job.error, sent) == ("failed", sentence, [])


def test_who_asks_for_a_file_looks_after_one_project(
    plain, project, researcher, client_for, django_capture_on_commit_callbacks
):
    form = ExportForm({"format": "judgments"}, project=project)
    assert form.is_valid()
    long_ago = timezone.now() - 2 * attempts.SILENCE
    other = Project.objects.create(slug="other", name="Other")
    lost, _others = (
        Export.objects.create(project=one, query={}, filename="x", heard_at=long_ago)
        for one in (project, other)
    )
    sent = []
    with django_capture_on_commit_callbacks(execute=True):
        made = jobs.request(form.selection(), researcher, form.query(), sent.append)
    assert sent == [str(lost.pk), str(made.pk)]


def test_the_message_of_a_job_expires():
    """Another is sent while the job waits: without an end they would pile up."""
    with current_app.connection_or_acquire() as broker, broker.SimpleQueue("default") as queue:
        queue.clear()
        tasks.send("00000000-0000-0000-0000-000000000000")
        message = queue.get(timeout=5)
        message.ack()
    until = datetime.fromisoformat(message.headers["expires"]) - timezone.now()
    assert timedelta() < until <= attempts.MESSAGE_LIFE


class StubbornStorage(FileSystemStorage):
    """A storage that does not delete one of its files."""

    asked: ClassVar[list[str]] = []

    def delete(self, name):
        self.asked.append(name)
        if "stays" in name:
            raise PermissionError(13, "Permission denied", name)
        super().delete(name)


@pytest.fixture
def stubborn(use_storage):
    """Return a folder with two files that cannot be deleted, and others."""
    folder = use_storage(StubbornStorage) / "exports"
    folder.mkdir()
    for name in ("stays", "stays too", *map(str, range(20))):
        (folder / name).write_bytes(b"x")
    StubbornStorage.asked.clear()
    return folder


@pytest.mark.django_db
def test_a_file_that_cannot_be_deleted_keeps_no_other(stubborn, caplog):
    drop_unnamed(Export, "exports/", -timedelta(days=1))
    assert {path.name for path in stubborn.iterdir()} == {"stays", "stays too"}
    assert "exports/stays is named by no row, and could not be deleted" in caplog.text


@pytest.mark.django_db
def test_a_storage_that_is_away_is_not_asked_for_every_file(stubborn, monkeypatch):
    monkeypatch.setattr(unnamed_files, "LOST_SECONDS", 0.0)
    drop_unnamed(Export, "exports/", -timedelta(days=1))
    assert len([name for name in StubbornStorage.asked if "stays" in name]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_file_that_forgetting_could_not_delete_is_named(project, teammate, stubborn):
    for name in ("stays", "1"):
        Export.objects.create(project=project, query={}, file=f"exports/{name}", filename="x")
    said = io.StringIO()
    call_command("forget", "--annotator", teammate.username, "--yes", stdout=io.StringIO(), stderr=said)
    assert said.getvalue().endswith(
        "These files could not be deleted. Delete them yourself:\n  exports/stays\n"
    )


def test_a_file_that_a_killed_writer_left_is_deleted(plain, researcher, client_for, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    job = prepare(client_for(researcher))
    jobs.write(str(job.pk), read_selection)
    storage = Export._meta.get_field("file").storage
    left = storage.save("exports/left", io.BytesIO(b"x"))
    drop_unnamed(Export, "exports/", timedelta(days=1))
    assert storage.exists(left)  # its writer may be about to tell
    drop_unnamed(Export, "exports/", -timedelta(days=1))
    job.refresh_from_db()
    assert (storage.exists(left), storage.exists(job.file.name)) == (False, True)
