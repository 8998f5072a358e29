"""The check on the page Import counts what the import then does."""

import os
import re
import sqlite3
from contextlib import closing
from random import Random

import pytest
from django.core.files.base import ContentFile

from annotate import tasks
from annotate.imports import uploads
from annotate.imports.files import checking, earlier, reception
from annotate.imports.files.earlier import EarlierRecords
from annotate.models import Import, Prompt
from tests.annotate.views.uploading import URL, jsonl

pytestmark = pytest.mark.once  # no query is special to a database
ROWS = 500
KINDS = ("prompts", "comparisons", "judged", "gold")


def judged(number):
    """Return a row in which two annotators agree, of few prompts with few completions."""
    texts = {"prompt": f"prompt {number % 100}", "completion_a": "one", "completion_b": f"two {number % 3}"}
    said = [{"annotator": f"{name}{number % 2}", "verdict": "a"} for name in "uv"]
    return {**texts, "policy_a": "m", "policy_b": "n", "judgments": said}


@pytest.fixture
def check(project, owner):
    """check(rows, kind): an import that was checked."""

    def check(rows, kind="judged"):
        upload = reception.receive(project, owner, ContentFile(jsonl(*rows), "rows.jsonl"), "jsonl")
        options = uploads.Options.of(upload)
        assert options.format == "whetstone-judged"
        uploads.check_again(upload, reception.replace(options, becomes=kind))
        return uploads.work(upload.pk, 60)

    return check


@pytest.fixture
def bring_in(check, client_for, owner):
    """bring_in(rows, kind): an import that is done, and the page of its check."""

    def bring_in(rows, kind):
        made = check(rows, kind)
        client = client_for(owner)
        page = " ".join(client.get(f"{URL}{made.pk}/").content.decode().split())
        client.post(f"{URL}{made.pk}/start/")
        made = uploads.work(made.pk, 60)
        assert made.state == Import.State.DONE
        return made, page

    return bring_in


@pytest.mark.parametrize("size", [1, 7, 5_000])
@pytest.mark.parametrize("kind", KINDS)
def test_the_check_counts_what_the_import_does(bring_in, monkeypatch, kind, size):
    """Also of rows that repeat others far before them, in a project that knows half of the file."""
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", size)
    monkeypatch.setattr(checking, "ROWS_COMPARED_AT_A_TIME", 5)
    count = ROWS // 5 if size < 10 else ROWS
    rows = [judged(number) for number in range(count)]
    Random(kind).shuffle(rows)
    for part in (rows[: count // 2], rows):
        made, page = bring_in(part, kind)
        assert made.counts["expected"] == made.counts["made"]
    duplicates = made.counts["made"]["duplicates"]
    assert f"{duplicates} are in the project already, or repeat an earlier row of the file." in page
    assert re.search(r"Importing adds [\d,]+ \w+", page)


def test_the_check_of_a_known_file_says_that_nothing_is_added(bring_in):
    for _time in range(2):
        _made, page = bring_in([judged(1)], "judged")
    assert (
        "Importing adds nothing. 1 is in the project already, or repeats an earlier row of the file." in page
    )


def test_a_check_goes_on_on_a_machine_without_its_records(check, project, owner, monkeypatch):
    """Also after a crash, and on a machine that knows some of the file."""
    rows = [judged(number) for number in range(60)]
    whole = check(rows).counts["expected"]
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 7)
    upload = reception.receive(project, owner, ContentFile(jsonl(*rows), "rows.jsonl"), "jsonl")
    steps = Random(1)
    for _step in range(200):
        path = earlier.path_of(upload)
        match steps.randrange(4):
            case 0:
                path.unlink(missing_ok=True)
            case 1 if path.exists():  # the step before is not there: the process was killed
                kept = path.read_bytes()
                uploads.work(upload.pk, 0)
                path.write_bytes(kept)
        upload = uploads.work(upload.pk, 0)
        if upload.state != Import.State.CHECKING:
            break
    assert (upload.state, upload.counts["expected"]) == (Import.State.READY, whole)
    assert upload.counts["rows"] == len(rows)
    assert not Prompt.objects.exists()


def test_records_beyond_the_check_are_forgotten(check, project, owner, monkeypatch):
    """As after the database was restored from a backup."""
    rows = [judged(number) for number in range(20)]
    whole = check(rows).counts["expected"]
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 7)
    upload = reception.receive(project, owner, ContentFile(jsonl(*rows), "rows.jsonl"), "jsonl")
    before = {"position": 0, "line": 0, "counts": upload.counts}
    uploads.work(upload.pk, 0)
    Import.objects.filter(pk=upload.pk).update(**before)
    assert uploads.work(upload.pk, 60).counts["expected"] == whole


def test_of_two_windows_one_does_each_step_of_a_check(project, owner, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 7)
    rows = jsonl(*(judged(number) for number in range(20)))
    upload = reception.receive(project, owner, ContentFile(rows, "rows.jsonl"), "jsonl")
    first, second = Import.objects.get(pk=upload.pk), Import.objects.get(pk=upload.pk)
    for window in (first, second):
        uploads._check_some(window)
    upload.refresh_from_db()
    assert upload.counts["rows"] == 7
    assert uploads.work(upload.pk, 60).counts["rows"] == 20


def test_the_records_of_a_check_are_gone_with_it(check, project, owner, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 7)
    assert not earlier.path_of(check([judged(1)])).exists()
    rows = jsonl(*(judged(number) for number in range(20)))
    stopped, left = (
        reception.receive(project, owner, ContentFile(rows, "rows.jsonl"), "jsonl") for _time in range(2)
    )
    for upload in (stopped, left):
        uploads.work(upload.pk, 0)
        assert earlier.path_of(upload).exists()
    uploads.cancel(stopped)
    assert not earlier.path_of(stopped).exists()
    earlier.sweep(earlier.path_of(left).stat().st_mtime + 1)
    assert not earlier.path_of(left).exists()


@pytest.fixture
def half_checked(project, owner, monkeypatch):
    """Return an import of 20 rows of which a first step checked 7."""
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 7)
    rows = jsonl(*(judged(number) for number in range(20)))
    upload = reception.receive(project, owner, ContentFile(rows, "rows.jsonl"), "jsonl")
    return uploads.work(upload.pk, 0)


def spoil(path):
    path.write_bytes(b"no database" * 1_000)


def replace_by_a_folder(path):
    path.unlink()
    (path / "folder").mkdir(parents=True)


def make_of_another_version(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE record (number INTEGER PRIMARY KEY, item BLOB)")


@pytest.mark.parametrize("damage", [spoil, replace_by_a_folder, make_of_another_version])
def test_damaged_records_never_end_a_check(half_checked, damage):
    damage(earlier.path_of(half_checked))
    upload = uploads.work(half_checked.pk, 60)
    assert (upload.state, upload.counts["rows"]) == (Import.State.READY, 20)
    assert upload.file.storage.exists(upload.file.name)
    assert upload.counts.get("alone", False) == (damage is replace_by_a_folder)


def test_a_check_goes_on_after_an_upgrade(project, owner, monkeypatch):
    """Records that are laid out otherwise are read again, and are swept in the end."""
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 7)
    rows = ContentFile(jsonl(*(judged(number % 5) for number in range(20))), "rows.jsonl")
    upload = uploads.work(reception.receive(project, owner, rows, "jsonl").pk, 0)
    path = earlier.path_of(upload)
    old = path.rename(path.with_name(f"{upload.options['pass']}.sqlite3"))
    with closing(sqlite3.connect(old)) as database:
        database.execute("ALTER TABLE record ADD COLUMN sides_known INTEGER")
    upload = uploads.work(upload.pk, 60)
    assert (upload.state, upload.counts["rows"]) == (Import.State.READY, 20)
    assert "alone" not in upload.counts
    earlier.sweep(old.stat().st_mtime + 1)
    assert not old.exists()


def test_a_step_ends_while_another_window_has_the_records(half_checked, monkeypatch):
    monkeypatch.setattr(earlier, "SECONDS", 0.01)
    with EarlierRecords(earlier.path_of(half_checked)):
        assert uploads.work(half_checked.pk, 0).counts["rows"] == 7
    assert uploads.work(half_checked.pk, 60).counts["rows"] == 20


def test_a_check_that_restarts_has_records_of_its_own(half_checked):
    before = earlier.path_of(half_checked)
    assert reception.restart(half_checked, state=Import.State.CHECKING)
    half_checked.refresh_from_db()
    assert not before.exists()
    assert earlier.path_of(half_checked) != before


def test_a_check_without_a_pass_begins_again(half_checked):
    options = {name: value for name, value in half_checked.options.items() if name != "pass"}
    Import.objects.filter(pk=half_checked.pk).update(options=options)
    assert uploads.work(half_checked.pk, 60).counts["rows"] == 20


def test_a_window_that_comes_late_leaves_no_records(half_checked):
    late = Import.objects.get(pk=half_checked.pk)
    uploads.work(half_checked.pk, 60)
    uploads._check_some(late)
    assert not earlier.path_of(late).exists()
    assert Import.objects.get(pk=late.pk).state == Import.State.READY


def test_the_hourly_sweep_deletes_old_records(half_checked):
    path = earlier.path_of(half_checked)
    tasks.sweep_exports()
    assert path.exists()
    os.utime(path, (0, 0))
    tasks.sweep_exports()
    assert not path.exists()
