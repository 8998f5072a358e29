"""The documented set-up, gunicorn behind docs/nginx.conf: forty senders that never finish hold up no user."""

import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.conf import settings

from tests.security.conftest import Tally
from tests.servers import free_port
from tests.waiting import wait_for
from training.demo.supervisor import is_answering

KIND = "requests that are never finished, behind the proxy"
SENDERS = 40


@contextmanager
def running(*command: str, **options) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def configuration(folder: Path, port: int, upstream: int) -> Path:
    """docs/nginx.conf for this machine: other ports, no certificate, short timeouts so that the test need not wait."""
    text = (settings.BASE_DIR / "docs" / "nginx.conf").read_text()
    text = re.sub(r" *ssl_certificate.*\n", "", text)
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace(
        "judge.example.org", "localhost"
    )
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}").replace("15s", "2s")
    spool = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off;\n{spool}{text}}}\n"
    )
    return file


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[int]:
    """Yield the port of a proxy in front of two threads of the site."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or pytest.fail(
        "nginx is missing."
    )
    port, upstream = free_port(), free_port()
    gunicorn = (sys.executable, "-m", "gunicorn", "config.wsgi", "--threads", "2", "--no-control-socket")
    with ExitStack() as stack:
        stack.enter_context(running(*gunicorn, "--bind", f"127.0.0.1:{upstream}", cwd=settings.BASE_DIR))
        stack.enter_context(
            running(nginx, "-c", str(configuration(tmp_path, port, upstream)), "-e", "stderr")
        )
        for place in (upstream, port):
            wait_for(lambda place=place: is_answering(f"http://localhost:{place}/login/"))
        yield port


def test_a_request_that_never_ends_holds_no_thread(proxy: int, tally: Tally) -> None:
    head = (
        "POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        "Cookie: csrftoken=x\r\nContent-Length: 100000\r\n\r\na="
    )
    senders = [socket.create_connection(("127.0.0.1", proxy)) for _ in range(SENDERS)]
    for sender in senders:
        sender.sendall(head.encode())
    with urllib.request.urlopen(f"http://localhost:{proxy}/login/", timeout=10) as page:
        assert page.status == 200
    for sender in senders:
        sender.settimeout(30)
        tally.refuse(b"408" in sender.recv(100) or sender.recv(1) == b"", "a sender was kept")
        sender.close()


def test_a_large_body_ends_at_the_proxy(proxy: int, tally: Tally) -> None:
    for path in ("/login/", "/p/ours/judge/", "/api/v1/projects/"):
        answer = begin(proxy, path, 300_000_000)
        tally.refuse(b" 413 " in answer, path)
        assert path != "/api/v1/projects/" or b'"field": null' in answer


def test_a_file_of_a_stranger_is_not_taken_by_the_proxy(proxy: int, tally: Tally) -> None:
    answer = begin(proxy, "/p/ours/import/", 900_000_000)
    tally.refuse(b" 403 " in answer, answer)


def begin(port: int, path: str, length: int) -> bytes:
    """Announce a body, send none of it, and return the answer."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sender:
        sender.sendall(head.encode())
        return b"".join(iter(lambda: sender.recv(4096), b""))
