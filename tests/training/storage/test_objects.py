"""Bytes in a folder and in a bucket: whole, checked, within the prefix, and retried for a while."""

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from config.bucket import READ_AHEAD
from config.storage import check_storage, find_fault, require_storage
from training.storage import objects
from training.storage.objects import StorageFaultError

CONTENT = b"".join(b"line %d\n" % number for number in range(2_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = f"runs/reviews-1/{SHA256}"
NAME = "runs/reviews-1/pairs.jsonl"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(CONTENT)
    return path


def test_what_is_put_is_fetched_and_deleted(place: str, file: Path, tmp_path: Path) -> None:
    for _twice in range(2):
        objects.put(file, KEY)
    assert objects.list_keys("runs/reviews-1") == [KEY]
    objects.fetch(KEY, SHA256, tmp_path / "deep" / "copy", NAME)
    assert (tmp_path / "deep" / "copy").read_bytes() == CONTENT
    objects.delete([KEY, f"{KEY}0"])
    assert objects.list_keys("runs/reviews-1") == []


def test_a_damaged_object_is_named_and_not_kept(place: str, file: Path, tmp_path: Path) -> None:
    default_storage.save(KEY, ContentFile(CONTENT[:-1]))
    with pytest.raises(StorageFaultError, match=rf"^The file {NAME} is damaged in the storage: {KEY} is not"):
        objects.fetch(KEY, SHA256, tmp_path / "copy", NAME)
    default_storage.delete(KEY)
    with pytest.raises(
        StorageFaultError, match=rf"^The file {NAME} is missing in the storage: there is no {KEY}"
    ):
        objects.fetch(KEY, SHA256, tmp_path / "copy", NAME)
    assert list(tmp_path.glob("*copy*")) == []


def test_half_an_object_is_replaced_by_the_whole(place: str, file: Path, tmp_path: Path) -> None:
    default_storage.save(KEY, ContentFile(CONTENT[: len(CONTENT) // 2]))
    objects.put(file, KEY)
    objects.fetch(KEY, SHA256, tmp_path / "copy", NAME)


def test_half_an_object_is_replaced_where_none_is_overwritten(
    use_place: Any, bucket: str, file: Path, tmp_path: Path
) -> None:
    use_place(bucket)
    default_storage.file_overwrite = False
    default_storage.save(KEY, ContentFile(CONTENT[: len(CONTENT) // 2]))
    objects.patiently(lambda: objects.put(file, KEY), "Storing", 60)
    objects.fetch(KEY, SHA256, tmp_path / "copy", NAME)
    assert objects.list_keys("runs/reviews-1") == [KEY]


def test_no_name_leads_out_of_the_place(place: str) -> None:
    for name in ("../secret", "runs/../../secret", "/etc/passwd"):
        with pytest.raises(SuspiciousOperation):
            default_storage.open(name)


def test_a_bucket_gives_no_addresses(use_place: Any, bucket: str, file: Path) -> None:
    use_place(bucket)
    objects.put(file, KEY)
    with pytest.raises(NotImplementedError):
        default_storage.url(KEY)


def test_a_large_object_is_read_where_it_is_wanted(use_place: Any, bucket: str, file: Path) -> None:
    use_place(bucket)
    with file.open("ab") as more:
        more.truncate(2 * READ_AHEAD + 1)
    objects.put(file, KEY)
    with objects.open_object(KEY, NAME) as found:
        found.seek(CONTENT.index(b"line 1000\n"))
        assert found.readline() == b"line 1000\n"
        found.seek(-8, 2)
        assert found.read() == bytes(8)
        assert found.read() == b""
        found.seek(0)
        assert len(found.read()) == 2 * READ_AHEAD + 1


def test_a_storage_that_is_away_is_given_up_with_a_sentence(
    use_place: Any, bucket: str, monkeypatch: Any, file: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    use_place(bucket)
    what = f"Storing {NAME}"
    with pytest.raises(
        StorageFaultError, match=rf"^{what} failed for 0 seconds: the storage cannot be reached.$"
    ):
        objects.patiently(lambda: objects.put(file, KEY), what, 0)


def test_what_needs_the_storage_is_tried_again() -> None:
    tries: list[int] = []

    def act() -> int:
        tries.append(1)
        if len(tries) < 2:
            raise OSError(errno.EIO, "away")
        return len(tries)

    assert objects.patiently(act, "Storing", 60) == 2


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("", ""),
        ("some.storage.Class", ""),
        ("file:///srv/files", ""),
        ("file://files", "WHETSTONE_STORAGE names no folder: write file:///files."),
        (
            "file://{var}/runs",  # which differs from process to process
            "WHETSTONE_STORAGE is where workers have their run directories: name another folder.",
        ),
        ("s3://", "WHETSTONE_STORAGE names no bucket and prefix: write s3://bucket/prefix."),
        ("s3://bucket/a/../b", "WHETSTONE_STORAGE names no bucket and prefix: write s3://bucket/prefix."),
        (
            "gs://bucket",
            "WHETSTONE_STORAGE is gs://bucket: Whetstone knows s3://bucket/prefix and file:///folder.",
        ),
        ("s3://bucket", "Files in a bucket need the extra s3: pip install -c constraints.txt '.[s3]'."),
    ],
)
def test_a_mistake_in_the_setting_is_told_at_the_start(
    settings: Any, monkeypatch: Any, place: str, fault: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    place = place.format(var=settings.VAR)
    settings.STORAGE_PLACE = place
    assert find_fault(place) == fault
    assert [error.msg for error in check_storage()] == [fault][: bool(fault)]
    if fault:
        with pytest.raises(ImproperlyConfigured):
            require_storage()
