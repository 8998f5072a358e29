"""Storages that web server and worker share: a folder, and a bucket of a real S3 server on this machine."""

import logging
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.storage import storage_options

BUCKET = "files-of-tests"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Return the address of moto's S3 server, which runs in a thread and keeps objects in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        host, port = server.get_host_and_port()
        made = urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()  # noqa: S310
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def s3_variables(s3_server: str, monkeypatch: Any) -> dict[str, str]:
    """Return the variables by which boto finds the server, set in this process too."""
    variables = {
        "AWS_ENDPOINT_URL_S3": s3_server,
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def bucket(s3_variables: dict[str, str]) -> str:
    """Return the WHETSTONE_STORAGE of a bucket, with a prefix of this test's own."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def use_place(settings: Any) -> Callable[[str], str]:
    """use_place("s3://bucket/prefix"): this process's files are there."""

    def use(place: str) -> str:
        settings.STORAGE_PLACE, settings.STORES_RUNS = place, True
        settings.STORAGES = settings.STORAGES | {"default": storage_options(place)}
        return place

    return use


@pytest.fixture(params=["folder", "bucket"])
def place(request: Any, use_place: Any, tmp_path: Path) -> str:
    """Run the test with a shared folder, and with a bucket."""
    found = f"file://{tmp_path}/shared" if request.param == "folder" else request.getfixturevalue("bucket")
    use_place(found)
    return str(found)


@pytest.fixture
def on_machine(settings: Any, tmp_path: Path) -> Callable[[str], Path]:
    """on_machine("worker"): from here on, WHETSTONE_VAR is a folder of that machine's own."""

    def move(name: str) -> Path:
        settings.VAR = tmp_path / name
        settings.RUNS = settings.VAR / "runs"
        settings.RUNS.mkdir(parents=True, exist_ok=True)
        return Path(settings.VAR)

    return move
