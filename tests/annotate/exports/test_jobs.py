"""Prepared files: written once, by a worker or beside the web server, with a hash and an end."""

import hashlib
import json
import os
import threading
import time
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError
from django.db.models.functions import Now
from django.utils import timezone

from annotate import attempts, tasks
from annotate.exports import jobs
from annotate.forms.exports import read_selection
from annotate.models import Export
from annotate.models.snapshots import KEPT
from tests.storages import FullStorage
from tests.waiting import wait_for

PREPARE = "/p/reviews/export/prepare/"


@pytest.fixture(autouse=True)
def _storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "files"


def prepare(client, **given):
    answer = client.post(PREPARE, given)
    assert answer.status_code == 302
    return Export.objects.get(pk=answer.url.rstrip("/").rpartition("/")[2])


def test_a_worker_writes_the_file_that_was_asked_for(plain, researcher, client_for):
    client = client_for(researcher)
    job = prepare(client, format="kto", annotator=["anna", "bela"])
    assert "Waiting for a worker" in client.get(f"/p/reviews/export/jobs/{job.pk}/").content.decode()
    tasks.write_export(str(job.pk))
    tasks.write_export(str(job.pk))  # a message that arrives twice
    job.refresh_from_db()
    assert (job.state, job.attempt, job.rows, job.expected) == ("done", 1, 4, 4)
    assert job.sha256 in client.get(f"/p/reviews/export/jobs/{job.pk}/").content.decode()
    answer = client.get(f"/p/reviews/export/jobs/{job.pk}/file/")
    content = b"".join(answer.streaming_content)
    assert answer["Content-Disposition"] == 'attachment; filename="reviews-kto.jsonl"'
    assert (len(content), hashlib.sha256(content).hexdigest()) == (job.size, job.sha256)
    direct = client.get("/p/reviews/export/file/?format=kto&annotator=anna&annotator=bela")
    assert content == b"".join(direct.streaming_content)


def test_a_file_can_be_downloaded_until_it_expires(plain, researcher, client_for):
    client = client_for(researcher)
    job = prepare(client)
    jobs.write(str(job.pk), read_selection)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(f"/p/reviews/export/jobs/{job.pk}/file/").status_code == 404
    job.refresh_from_db()
    assert job.file.storage.exists(job.file.name)
    tasks.sweep_exports()
    assert not job.file.storage.exists(job.file.name)
    assert "has expired" in client.get(f"/p/reviews/export/jobs/{job.pk}/").content.decode()


def test_a_job_that_waits_is_never_deleted(project):
    long_ago = timezone.now() - 20 * KEPT
    for state in ("queued", "cancelled"):
        job = Export.objects.create(project=project, query={}, filename="x", state=state)
        Export.objects.filter(pk=job.pk).update(created_at=long_ago)
    jobs.sweep()
    assert [job.state for job in Export.objects.all()] == ["queued"]


def test_a_file_without_a_row_is_deleted_once_it_is_old(project, settings):
    """A row names its file when it is whole: one that is being written has none yet."""
    path = settings.MEDIA_ROOT / "exports" / "left-behind"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    jobs.sweep()
    assert path.exists()
    long_ago = time.time() - 2 * KEPT.total_seconds()
    os.utime(path, (long_ago, long_ago))
    jobs.sweep()
    assert not path.exists()


def test_a_file_that_finds_no_room_says_so(plain, researcher, client_for, use_storage):
    job = prepare(client_for(researcher))
    use_storage(FullStorage)
    jobs.write(str(job.pk), read_selection)
    job.refresh_from_db()
    assert (job.state, job.error[:26]) == ("failed", "The server’s disk is full.")


def test_a_cancelled_or_refused_job_leaves_no_file(plain, chat, researcher, client_for):
    client = client_for(researcher)
    cancelled, mixed = prepare(client, texts="text"), prepare(client)
    client.post(f"/p/reviews/export/jobs/{cancelled.pk}/cancel/")
    for job in (cancelled, mixed):
        jobs.write(str(job.pk), read_selection)
        job.refresh_from_db()
        assert not job.file
    assert (cancelled.state, mixed.state) == ("cancelled", "failed")
    assert "plain prompts and chats" in mixed.error


def test_a_silent_writer_is_replaced_and_then_given_up(plain, researcher, client_for):
    job = prepare(client_for(researcher))
    for attempt in range(1, attempts.ATTEMPTS + 1):
        long_ago = timezone.now() - 2 * attempts.SILENCE
        Export.objects.update(state="running", attempt=attempt, heard_at=long_ago)
        job.refresh_from_db()
        assert attempts.is_waiting(job)
        jobs.write(str(job.pk), read_selection)
        job.refresh_from_db()
        assert job.state == ("done" if attempt < attempts.ATTEMPTS else "failed")
        Export.objects.update(file="")


@pytest.mark.parametrize("by", [timedelta(hours=2), -timedelta(hours=2)], ids=["ahead", "behind"])
def test_a_wrong_clock_replaces_no_writer(plain, researcher, client_for, monkeypatch, by):
    right = prepare(client_for(researcher))
    Export.objects.update(state="running", attempt=1, heard_at=Now())
    told = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: told() + by)
    right.refresh_from_db()
    assert not attempts.is_waiting(right)
    jobs.write(str(right.pk), read_selection)
    right.refresh_from_db()
    assert (right.state, right.attempt) == ("running", 1)


@pytest.mark.parametrize("by", [timedelta(hours=2), -timedelta(hours=2)], ids=["ahead", "behind"])
def test_a_writer_with_a_wrong_clock_is_not_silent(plain, researcher, client_for, monkeypatch, by):
    told = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: told() + by)
    client = client_for(researcher)
    job = prepare(client)
    near = timedelta(seconds=30)
    assert Export.objects.filter(heard_at__range=(Now() - near, Now() + near)).exists()
    jobs.write(str(job.pk), read_selection)
    recent = (Now() - near, Now() + near)
    assert Export.objects.filter(state="done", heard_at__range=recent, finished_at__range=recent).exists()


def test_no_more_than_a_few_jobs_wait(plain, researcher, client_for):
    client = client_for(researcher)
    for _ in range(jobs.LIVE_AT_MOST):
        prepare(client)
    answer = client.post(PREPARE, {})
    assert (answer.status_code, "Other files of this project" in answer.content.decode()) == (422, True)


@pytest.mark.parametrize("by", [2 * KEPT, -2 * KEPT], ids=["ahead", "behind"])
def test_a_wrong_clock_ends_no_file_early_or_late(plain, researcher, client_for, monkeypatch, by):
    client = client_for(researcher)
    job = prepare(client)
    told = timezone.now
    with monkeypatch.context() as wrong:
        wrong.setattr(timezone, "now", lambda: told() + by)
        jobs.write(str(job.pk), read_selection)
        jobs.sweep()
        job.refresh_from_db()
        with jobs.download(job).file_to_stream as file:
            assert file.read()
    near = (Now() + KEPT - timedelta(minutes=1), Now() + KEPT)
    assert Export.objects.filter(expires_at__range=near).exists()


@pytest.mark.parametrize("by", [2 * KEPT, -2 * KEPT], ids=["ahead", "behind"])
@pytest.mark.parametrize("is_ready", [True, False], ids=["ready", "expired"])
def test_page_api_and_download_agree_by_a_wrong_clock(
    plain, researcher, client_for, monkeypatch, by, is_ready
):
    client = client_for(researcher)
    job = prepare(client)
    jobs.write(str(job.pk), read_selection)
    Export.objects.update(expires_at=Now() + (KEPT if is_ready else -timedelta(seconds=1)))
    told = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: told() + by)
    address = f"/p/reviews/export/jobs/{job.pk}/"
    page, pages = client.get(address).content.decode(), client.get("/p/reviews/export/").content.decode()
    assert (f"{address}file/" in page, "has expired" in page) == (is_ready, not is_ready)
    assert ("Expired" in pages) == (not is_ready)
    api = "/api/v1/projects/reviews/export/jobs/"
    assert client.get(f"{api}{job.pk}/").json()["can_be_downloaded"] == is_ready
    assert client.get(api).json()["results"][0]["can_be_downloaded"] == is_ready
    job.refresh_from_db()
    same = client.get(f"{api}{job.pk}/file/", headers={"If-None-Match": f'"{job.sha256}"'})
    assert same.status_code == (304 if is_ready else 404)
    answer = client.get(f"{address}file/")
    assert answer.status_code == (200 if is_ready else 404)
    if is_ready:
        assert b"".join(answer.streaming_content)


@pytest.mark.parametrize("by", [2 * KEPT, -2 * KEPT], ids=["ahead", "behind"])
def test_no_sweep_takes_a_file_before_its_row_names_it(plain, researcher, client_for, monkeypatch, by):
    """Either the clock of the server that sweeps is wrong, or the one that the storage wrote the file by."""
    job = prepare(client_for(researcher))
    told, store = timezone.now, jobs.store_file

    def store_and_sweep(job, name, *arguments):
        stored = store(job, name, *arguments)
        if by < timedelta():  # the storage is behind
            written = time.time() + by.total_seconds()
            os.utime(job.file.storage.path(stored), (written, written))
        with monkeypatch.context() as wrong:
            wrong.setattr(timezone, "now", lambda: told() + abs(by))
            jobs.sweep()
        return stored

    monkeypatch.setattr(jobs, "store_file", store_and_sweep)
    jobs.write(str(job.pk), read_selection)
    job.refresh_from_db()
    assert (job.state, job.file.storage.exists(job.file.name)) == ("done", True)


@pytest.mark.django_db(transaction=True)
def test_a_writer_is_alive_while_its_first_rows_take_long(plain, researcher, client_for, monkeypatch):
    job = prepare(client_for(researcher))
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.02)

    def read_slowly(project, query):
        long_ago = timezone.now() - 2 * attempts.SILENCE
        Export.objects.update(heard_at=long_ago)
        wait_for(lambda: not Export.objects.silent(attempts.SILENCE).exists())
        return read_selection(project, query)

    jobs.write(str(job.pk), read_slowly)
    assert Export.objects.get().state == "done"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [OperationalError, InterfaceError])
def test_a_fault_of_the_database_ends_no_heartbeat(plain, researcher, client_for, monkeypatch, fault):
    job = prepare(client_for(researcher))
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.02)
    tell, beats = Export.tell, []

    def tell_later(self, **progress):
        if threading.current_thread().name.startswith("heartbeat"):
            beats.append(1)
            if len(beats) == 1:
                raise fault("The database is away.")
        return tell(self, **progress)

    def read_slowly(project, query):
        wait_for(lambda: len(beats) >= 3, 20)
        return read_selection(project, query)

    monkeypatch.setattr(Export, "tell", tell_later)
    jobs.write(str(job.pk), read_slowly)
    assert Export.objects.get().state == "done"


@pytest.mark.django_db(transaction=True)
def test_a_writer_that_hangs_is_replaced(plain, researcher, client_for, monkeypatch):
    job = prepare(client_for(researcher))
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.02)
    monkeypatch.setattr(attempts, "LONGEST_WITHOUT_A_ROW", 0.2)
    monkeypatch.setattr(attempts, "SILENCE", timedelta(seconds=1))
    is_over = threading.Event()

    def hang(project, query):
        assert is_over.wait(60)
        return read_selection(project, query)

    hung = jobs.write_beside(job, hang)
    try:
        wait_for(lambda: Export.objects.silent(attempts.SILENCE).exists(), 30)
        jobs.write(str(job.pk), read_selection)
    finally:
        is_over.set()
        hung.join()
    job.refresh_from_db()
    assert (job.state, job.attempt, job.file.name) == ("done", 2, f"exports/{job.pk}-2")


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_that_waits_for_a_lock_holds_no_writer(plain, researcher, client_for, monkeypatch):
    """SQLite waits half a minute for a lock that another connection has."""
    job = prepare(client_for(researcher))
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.02)
    monkeypatch.setattr(attempts, "JOIN_SECONDS", 0.05)
    tell, is_free, threads = Export.tell, threading.Event(), []

    def wait_for_a_lock(self, **progress):
        if threading.current_thread().name.startswith("heartbeat"):
            threads.append(threading.current_thread())
            assert is_free.wait(60)
        return tell(self, **progress)

    def read_slowly(project, query):
        wait_for(lambda: threads, 20)
        return read_selection(project, query)

    monkeypatch.setattr(Export, "tell", wait_for_a_lock)
    jobs.write(str(job.pk), read_slowly)
    assert (Export.objects.get().state, threads[0].is_alive()) == ("done", True)
    is_free.set()
    threads[0].join(60)
    assert (threads[0].is_alive(), len(threads), Export.objects.get().state) == (False, 1, "done")


def test_no_heartbeat_beats_beside_a_transaction(plain, researcher, client_for, monkeypatch):
    """No one would see it, and on SQLite it would wait for the lock of that transaction."""
    job = prepare(client_for(researcher))
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.0)
    names = []

    def read(project, query):
        names.extend(thread.name for thread in threading.enumerate())
        return read_selection(project, query)

    jobs.write(str(job.pk), read)
    assert not [name for name in names if name.startswith("heartbeat")]


@pytest.mark.django_db(transaction=True)
def test_without_a_worker_the_page_has_it_written(plain, researcher, client_for):
    client = client_for(researcher)
    job = prepare(client)
    Export.objects.update(heard_at=timezone.now() - 2 * attempts.PATIENCE)
    page = f"/p/reviews/export/jobs/{job.pk}/"
    client.get(page, headers={"HX-Request": "true"})
    wait_for(lambda: Export.objects.get().state == "done")
    content = b"".join(client.get(f"{page}file/").streaming_content)
    assert [json.loads(line)["comparison"] for line in content.splitlines()] == [plain[0].pk]


def test_only_readers_of_the_project_prepare_and_download(
    plain, researcher, owner, teammate, outsider, client_for
):
    job = prepare(client_for(researcher))
    jobs.write(str(job.pk), read_selection)
    page = f"/p/reviews/export/jobs/{job.pk}/"
    for user, status in ((owner, 200), (researcher, 200), (teammate, 403), (outsider, 404), (None, 302)):
        client = client_for(user)
        for path in (page, f"{page}file/", "/p/reviews/export/card/", "/p/reviews/export/file/?format=kto"):
            answer = client.get(path)
            assert answer.status_code == status
            if answer.streaming:
                assert b"".join(answer.streaming_content)
        changed = 302 if status == 200 else status
        assert client.post(f"{page}cancel/").status_code == changed
        if status != 200:
            assert client.post(PREPARE).status_code == status
            assert client.post("/p/reviews/export/push/").status_code == status


def test_the_api_names_the_format_and_what_is_wrong_with_it(plain, chat, researcher, client_for):
    client = client_for(researcher)
    path = "/api/v1/projects/reviews/export/"
    answer = client.get(path, {"format": "openai", "annotator": ["anna", "bela"]})
    assert len(b"".join(answer.streaming_content).splitlines()) == 2
    for query, field in (
        ({"format": "docx"}, "format"),
        ({"format": "jsonl"}, "texts"),
        ({"format": "openai", "ties": "only"}, "ties"),
        ({"formt": "csv"}, "formt"),
    ):
        answer = client.get(path, query)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
