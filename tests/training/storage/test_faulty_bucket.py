"""A bucket that refuses, answers nonsense, or sends other bytes than it was given."""

import hashlib
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from annotate.whole_files import save_whole
from tests.training.storage.conftest import BUCKET
from tests.training.storage.faulty_server import Fault, FaultyServer, faulty_server
from tests.waiting import wait_for
from training.storage import objects
from training.storage.objects import StorageFaultError

CONTENT = b"".join(b"line %d\n" % number for number in range(2_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = f"runs/reviews-1/{SHA256}"
NAME = "runs/reviews-1/pairs.jsonl"
PAGE = b"<html>Sign in</html>"
LARGE = 17 << 20  # bytes, which are put in parts

SOURCES_OF_CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_S3_SESSION_PROFILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
)


@pytest.fixture
def server(
    s3_server: str, s3_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, use_place: Any
) -> Iterator[FaultyServer]:
    """Return the server in front of this test's bucket, which is in use."""
    with faulty_server(s3_server) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.address)
        use_place(f"s3://{BUCKET}/{uuid.uuid4().hex}")
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(CONTENT)
    return path


def reason(act: Callable[[], object]) -> str:
    """Return the sentence with which the storage is given up."""
    with pytest.raises(StorageFaultError) as given_up:
        objects.patiently(act, "It", 0)
    return str(given_up.value)


CREDENTIALS = "look at its credentials"
IN_400 = "look at its address, region and credentials"
IN_403 = "look at its credentials, and at the clock of this machine"


@pytest.mark.parametrize(
    ("fault", "said", "said_to_head"),
    [
        (Fault(403, "AccessDenied"), f"AccessDenied; {CREDENTIALS}", f"403; {IN_403}"),
        (Fault(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed; set the clock of this machine", f"403; {IN_403}"),
        (Fault(400, "ExpiredToken"), f"ExpiredToken; {CREDENTIALS}", f"400; {IN_400}"),
        (Fault(400, "X" * 5000), "X" * 60 + "…", f"400; {IN_400}"),
        (Fault(507, "QuotaExceeded"), "QuotaExceeded; it is full", "507; it is full"),
        (Fault(404, "NoSuchBucket"), "NoSuchBucket", "NoSuchBucket"),
    ],
    ids=lambda value: getattr(value, "code", "")[:30],
)  # fmt: skip
def test_a_refusal_says_what_to_look_at(
    server: FaultyServer, file: Path, fault: Fault, said: str, said_to_head: str
) -> None:
    server.choose = lambda method, _path: fault if method == "PUT" else None
    start = "It failed for 0 seconds: the storage refused it"
    assert reason(lambda: objects.put(file, KEY)) == f"{start} ({said})."
    server.choose = lambda _method, _path: fault
    assert reason(lambda: objects.put(file, KEY)) == f"{start} ({said_to_head})."
    server.choose = lambda _method, _path: None
    assert objects.list_keys("runs/reviews-1") == []


@pytest.mark.parametrize("status", [301, 302])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "GET"])
def test_redirects_in_a_circle_end_soon(
    server: FaultyServer, file: Path, tmp_path: Path, status: int, method: str
) -> None:
    objects.put(file, KEY)
    before = len(server.asked)
    server.choose = lambda asked, _path: Fault(status, body=b" ") if asked in (method, "HEAD") else None
    act = {"GET": lambda: objects.fetch(KEY, SHA256, tmp_path / "copy", NAME)}
    said = reason(act.get(method, lambda: objects.put(file, f"{KEY}0")))
    assert (
        said == f"It failed for 0 seconds: the storage refused it ({status}; check its address and region)."
    )
    assert len(server.asked) - before < 6


@pytest.mark.parametrize("error", [KeyError("part"), RecursionError("too deep")], ids=repr)
def test_an_error_of_our_own_is_not_the_storages(server: FaultyServer, error: Exception) -> None:
    class Broken(ContentFile):
        def read(self, *_args: Any, **_options: Any) -> bytes:
            raise error

    with pytest.raises(type(error)):
        default_storage.save(KEY, Broken(CONTENT))


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (PAGE, "the answer is not one of a storage; check its address"),
        (b" ", "the storage refused it (500)"),  # as boto has it
        (b"<Error><Code></Code></Error>", "the storage refused it (500)"),
    ],
    ids=["page", "empty", "error"],
)
def test_an_answer_of_another_server_is_an_error_of_the_storage(
    server: FaultyServer, tmp_path: Path, page: bytes, said: str
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(LARGE))
    server.choose = lambda method, _path: Fault(200, body=page) if method == "POST" else None
    assert reason(lambda: objects.put(large, KEY)) == f"It failed for 0 seconds: {said}."
    objects.delete([KEY])  # which logs it
    server.choose = lambda _method, _path: None
    assert objects.list_keys("runs/reviews-1") == []


@pytest.mark.parametrize("methods", [("PUT",), ("HEAD",), ("PUT", "HEAD")], ids="-".join)
def test_a_page_in_answer_does_not_count_as_stored(
    server: FaultyServer, file: Path, methods: tuple[str, ...]
) -> None:
    server.choose = lambda method, _path: Fault(200, body=PAGE) if method in methods else None
    why = "the answer is not one of a storage; check its address"
    if "HEAD" not in methods:
        why = "the storage does not have what was put there"
    assert reason(lambda: objects.put(file, KEY)) == f"It failed for 0 seconds: {why}."
    server.choose = lambda _method, _path: None
    objects.put(file, KEY)
    with objects.open_object(KEY, NAME) as found:
        assert found.read() == CONTENT


@pytest.mark.parametrize("spoil", [lambda body: body[:-3] + b"xyz", lambda body: body[: len(body) // 2]])
def test_other_bytes_than_were_put_are_not_kept(
    server: FaultyServer, file: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    objects.put(file, KEY)
    server.choose = lambda method, _path: Fault(spoil=spoil) if method == "GET" else None
    copy = tmp_path / "copy"
    said = reason(lambda: objects.fetch(KEY, SHA256, copy, NAME))
    assert said == "It failed for 0 seconds: what the storage sent is not what was put there."
    server.choose = lambda method, _path: Fault(cut=True) if method == "GET" else None
    said = reason(lambda: objects.fetch(KEY, SHA256, copy, NAME))
    assert said == "It failed for 0 seconds: the storage sent fewer bytes than it has."
    assert list(tmp_path.glob("*copy*")) == []
    server.choose = lambda _method, _path: None
    objects.fetch(KEY, SHA256, copy, NAME)
    assert copy.read_bytes() == CONTENT


def test_a_storage_without_credentials_is_told_as_that(
    server: FaultyServer, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, use_place: Any
) -> None:
    for name in SOURCES_OF_CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    use_place(f"s3://{BUCKET}/other")
    said = reason(lambda: objects.put(file, KEY))
    assert said == "It failed for 0 seconds: there are no credentials for the storage."


@pytest.mark.parametrize("method", ["HEAD", "PUT", "GET", "DELETE"])
def test_an_answer_byte_by_byte_is_given_up(
    server: FaultyServer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Each byte comes before a time-out of the socket: only the whole has a deadline."""
    objects.put(file, KEY)
    monkeypatch.setattr("config.bucket.ANSWER_SECONDS", 0.5)
    server.choose = lambda asked, _path: Fault(dribble=0.05) if asked == method else None
    acts = {
        "PUT": lambda: objects.put(file, f"{KEY}0"),
        "GET": lambda: objects.fetch(KEY, SHA256, tmp_path / "copy", NAME),
        "DELETE": lambda: default_storage.delete(KEY),
        "HEAD": lambda: objects.is_stored(KEY, len(CONTENT)),
    }
    began = time.monotonic()
    assert reason(acts[method]) == "It failed for 0 seconds: the storage took too long."
    assert time.monotonic() - began < 30
    server.choose = lambda _method, _path: None
    monkeypatch.setattr("config.bucket.ANSWER_SECONDS", 60.0)  # a busy machine is no hanging storage
    objects.put(file, KEY)  # by another connection
    objects.fetch(KEY, SHA256, tmp_path / "copy", NAME)


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_slow_storage_is_not_given_up(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    content = bytes(12 << 20)
    path, key = tmp_path / "large", f"runs/reviews-1/{hashlib.sha256(content).hexdigest()}"
    path.write_bytes(content)
    if method == "GET":
        objects.put(path, key)
    monkeypatch.setattr("config.bucket.ANSWER_SECONDS", 4.0)  # the network holds some MB
    server.choose = lambda asked, _path: Fault(speed=2 << 20) if asked == method else None
    began = time.monotonic()
    if method == "PUT":
        objects.put(path, key)
    else:
        with objects.open_object(key, NAME) as found:
            assert found.read() == content
    assert time.monotonic() - began > 4


@pytest.mark.parametrize("size", [100, LARGE], ids=["whole", "in parts"])
def test_what_is_put_too_late_is_deleted(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("config.bucket.ANSWER_SECONDS", 1.0)
    server.choose = lambda asked, _path: Fault(seconds=3.0) if asked == "PUT" else None
    before = set(threading.enumerate())
    with pytest.raises(TimeoutError, match="the storage took too long"):
        save_whole(default_storage, "exports/one", io.BytesIO(bytes(size)))
    left = {thread for thread in threading.enumerate() if "Executor" in thread.name} - before
    assert not left  # which would hold up the end of the process
    assert [method for method, _path in server.asked].count("DELETE") == 1  # there was nothing yet
    wait_for(lambda: [method for method, _path in server.asked].count("DELETE") == 2)
    monkeypatch.setattr("config.bucket.ANSWER_SECONDS", 30.0)
    assert not default_storage.exists("exports/one")
