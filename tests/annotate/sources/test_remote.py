"""Files at an address: from allowed hosts alone, never from a private network, and bounded."""

import io
import json
import shutil
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from annotate.models import Judgment
from annotate.sources import remote
from annotate.sources.errors import FileError
from tests.local_server import LocalServer, QuietHandler, serving

pytestmark = pytest.mark.once  # files, which no database sees

ROWS = "".join(
    json.dumps({"prompt": f"{n}", "chosen": "a", "rejected": "b"}) + "\n" for n in range(3)
).encode()
FILES = ["README.md", "main/train.jsonl", "main/test.jsonl", "other/train.jsonl"]
PARTS = ["train-00001-of-00002", "train-00000-of-00002", "test-00000-of-00001", "lost-00000-of-00002"]
ANSWERS = {
    "/api/datasets/ada/pairs/revision/main": json.dumps(
        {"siblings": [{"rfilename": one} for one in FILES]}
    ).encode(),
    "/datasets/ada/pairs/resolve/main/main/train.jsonl": ROWS,
    "/rows.jsonl": ROWS,
    "/api/datasets/ada/parts/revision/main": json.dumps(
        {"siblings": [{"rfilename": f"data/{name}.parquet"} for name in PARTS]}
    ).encode(),
}

OK = b"HTTP/1.1 200 OK\r\n"
# Answers of servers that never stay silent for long, and never end.
TRICKLES = {
    "body": (OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "header": (OK, b"a"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trailer": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\n", b"a"),
}


class Hub(QuietHandler):
    """A hub with one dataset, and addresses that lead elsewhere."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path.startswith("/drip/"):
            self.drip(*TRICKLES[self.path.removeprefix("/drip/")])
            return
        content = ANSWERS.get(self.path)
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def drip(self, start: bytes, more: bytes) -> None:
        """Send the start of an answer, and then a few bytes now and then, for as long as the client listens."""
        with suppress(OSError):
            self.wfile.write(start)
            while True:
                self.wfile.write(more)
                time.sleep(0.05)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def hub(certificate: Path, monkeypatch):
    """Return the host of a hub on this machine, trusted by this process."""
    server = LocalServer(Hub)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    host = f"localhost:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", f"https://{host}")
    with serving(server):
        yield host


def test_a_dataset_of_the_hub_is_imported(project, hub, settings):
    settings.IMPORT_HOSTS = [hub]
    call_command("import_file", "reviews", "hf://datasets/ada/pairs/main")
    assert Judgment.objects.count() == 3


def test_all_parts_of_a_split_are_imported_in_order(project, hub, settings, monkeypatch):
    settings.IMPORT_HOSTS = [hub]
    for name in PARTS[:2]:
        file = io.BytesIO()
        number = int(name[9:11])
        table = [{"prompt": f"{number}-{row}", "chosen": "a", "rejected": "b"} for row in range(2)]
        pq.write_table(pa.Table.from_pylist(table), file)
        monkeypatch.setitem(ANSWERS, f"/datasets/ada/parts/resolve/main/data/{name}.parquet", file.getvalue())
    call_command("import_file", "reviews", "hf://datasets/ada/parts")
    asked = Judgment.objects.order_by("pk").values_list("comparison__prompt__content", flat=True)
    assert list(asked) == ["0-0", "0-1", "1-0", "1-1"]
    with pytest.raises(CommandError, match="The dataset has 1 of 2 parts"):
        call_command("import_file", "reviews", "hf://datasets/ada/parts/lost")
    with (
        pytest.raises(FileError, match="more than 1 MB"),
        remote.fetched("hf://datasets/ada/parts", [hub], 199, 30),
    ):
        pass


def test_an_address_is_imported_where_the_site_allows_it(project, hub, settings, owner, client_for):
    with pytest.raises(CommandError, match="This site imports nothing from “localhost”"):
        call_command("import_file", "reviews", f"https://{hub}/rows.jsonl")
    settings.IMPORT_HOSTS = [hub]
    page = client_for(owner).post("/p/reviews/import/", {"address": f"https://{hub}/rows.jsonl"}, follow=True)
    assert "TRL" in page.content.decode()
    body = json.dumps({"address": f"https://{hub}/rows.jsonl"})
    fetched = client_for(owner).post(
        "/api/v1/projects/reviews/imports/fetch/", body, content_type="application/json"
    )
    assert (fetched.status_code, fetched.json()["options"]["usual"]) == (201, "judged")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://{hub}/rows.jsonl", "must begin with https:// or hf://"),
        ("https://ada:secret@{hub}/rows.jsonl", "must begin with https:// or hf://"),
        ("https://{hub}/gone", "status 404"),
        ("https://{hub}/to/https://169.254.169.254/latest", "imports nothing from “169.254.169.254”"),
        ("https://{hub}/to/http://{hub}/rows.jsonl", "must begin with https://"),
        ("https://{hub}/to//to//to//to//to//to/x", "leads on and on"),
        ("https://localhost/x", "“localhost” is not on the public network"),
        ("https://[::1]/x", "“::1” is not on the public network"),
        ("hf://datasets/ada/pairs", "several files (“main/train.jsonl”, “other/train.jsonl”)"),
        ("hf://models/ada", "hf://datasets/OWNER/NAME"),
        ("https://{hub}/rows.jsonl?large", "status 404"),
    ],
)
def test_other_addresses_are_refused_in_a_sentence(hub, address, sentence):
    hosts = [hub, "localhost", "::1"]
    with pytest.raises(FileError) as caught, remote.fetched(address.replace("{hub}", hub), hosts, 10_000, 30):
        pass
    assert sentence in str(caught.value)


def test_a_download_is_bounded(hub):
    with (
        pytest.raises(FileError, match="more than 1 MB"),
        remote.fetched(f"https://{hub}/rows.jsonl", [hub], 9, 30),
    ):
        pass
    with (
        pytest.raises(FileError, match="took too long"),
        remote.fetched(f"https://{hub}/rows.jsonl", [hub], 999, 0),
    ):
        pass


@pytest.mark.parametrize("trickle", TRICKLES)
def test_a_trickle_ends_at_the_deadline(hub, trickle):
    began = time.monotonic()
    with (
        pytest.raises(FileError, match="took too long"),
        remote.fetched(f"https://{hub}/drip/{trickle}", [hub], 10_000_000, 0.5),
    ):
        pass
    assert time.monotonic() - began < 30  # generous: the hub would go on for ever


PRIVATE = [
    *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::a00:1", "2002:a00:1::1"),
    *("2001:0:a00:1::", "::ffff:0:127.0.0.1", "224.0.0.1", "ff02::1"),
    *("fec0::1", "0.0.0.0", "192.0.0.192"),  # noqa: S104 - not listened on
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_hides_one_of_a_private_network(address):
    with pytest.raises(FileError, match="is not on the public network"):
        remote.public_address(address, 443)
