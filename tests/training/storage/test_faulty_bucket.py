"""A bucket that refuses, answers nonsense, or sends other bytes than it was given."""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.storage.conftest import BUCKET
from tests.training.storage.faulty_server import Fault, FaultyServer, faulty_server
from training.storage import objects
from training.storage.objects import StorageFaultError

CONTENT = b"".join(b"line %d\n" % number for number in range(2_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = f"runs/reviews-1/{SHA256}"
NAME = "runs/reviews-1/pairs.jsonl"
LARGE = 17 << 20  # bytes, which are put in parts


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


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(403, "AccessDenied"), "It failed for 0 seconds: the storage refused it ({}; look at its credentials)."),
        (Fault(400, "ExpiredToken"), "It failed for 0 seconds: the storage refused it ({}; look at its credentials)."),
        (Fault(507, "QuotaExceeded"), "It failed for 0 seconds: the storage refused it ({}; it is full)."),
        (Fault(404, "NoSuchBucket"), "It failed for 0 seconds: the storage refused it (NoSuchBucket)."),
    ],
    ids=lambda value: getattr(value, "code", ""),
)  # fmt: skip
def test_a_refusal_says_what_to_look_at(server: FaultyServer, file: Path, fault: Fault, said: str) -> None:
    server.choose = lambda method, _path: fault if method == "PUT" else None
    assert reason(lambda: objects.put(file, KEY)) == said.format(fault.code)
    server.choose = lambda _method, _path: fault
    known = {"404": "NoSuchBucket"}.get(str(fault.status), str(fault.status))
    assert reason(lambda: objects.put(file, KEY)) == said.format(known)
    server.choose = lambda _method, _path: None
    assert objects.list_keys("runs/reviews-1") == []


@pytest.mark.parametrize(
    ("methods", "fault"),
    [
        (("POST",), Fault(200, body=b"<html>Sign in</html>")),
        (("HEAD", "DELETE", "POST"), Fault(301, "PermanentRedirect")),
    ],
    ids=["page", "circle"],
)
def test_an_answer_of_another_server_is_an_error_of_the_storage(
    server: FaultyServer, tmp_path: Path, methods: tuple[str, ...], fault: Fault
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(LARGE))
    server.choose = lambda method, _path: fault if method in methods else None
    said = reason(lambda: objects.put(large, KEY))
    assert said == "It failed for 0 seconds: the answer is not one of a storage; check its address."
    objects.delete([KEY])  # which logs it
    server.choose = lambda _method, _path: None
    assert objects.list_keys("runs/reviews-1") == []


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
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    use_place(f"s3://{BUCKET}/other")
    said = reason(lambda: objects.put(file, KEY))
    assert said == "It failed for 0 seconds: there are no credentials for the storage."
