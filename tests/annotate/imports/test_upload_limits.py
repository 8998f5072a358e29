"""Large bodies are refused before they lie on a disk, unless an admin imports a file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import FakePayload

from annotate.models import Import

pytestmark = pytest.mark.once  # bodies are refused before the database is asked for anything of its own

TOKEN = "a" * 32  # the CSRF check knows no better: cookie and form agree

PLACES = ["/login/", "/p/reviews/judge/", "/p/reviews/settings/", "/password/", "/admin/login/"]


@pytest.fixture
def temporary(settings, tmp_path: Path) -> Path:
    """Return the folder that uploads are spooled to, in which any attempt to write is an error."""
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "absent"
    return tmp_path


def post(client: Client, address: str, size: int):
    rows = SimpleUploadedFile("rows.txt", b"A comedy opens here.\n" * (size // 21))
    client.cookies["csrftoken"] = TOKEN
    return client.post(address, {"file": rows, "csrfmiddlewaretoken": TOKEN})


@pytest.mark.parametrize("address", [*PLACES, "/p/reviews/import/"])
def test_a_stranger_uploads_nothing_anywhere(project, temporary, address):
    assert post(Client(enforce_csrf_checks=True), address, 3_000_000).status_code == 413


@pytest.mark.parametrize("address", PLACES[1:])
def test_an_admin_uploads_nothing_but_imports(owner, temporary, client_for: Callable, address):
    assert post(client_for(owner), address, 3_000_000).status_code == 413


@pytest.mark.parametrize("who", ["teammate", "researcher", "outsider"])
def test_only_an_admin_of_the_project_imports(project, temporary, client_for, request, who):
    client = client_for(request.getfixturevalue(who), enforce_csrf_checks=True)
    assert post(client, "/p/reviews/import/", 3_000_000).status_code == 413


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 204), ("teammate", 403), ("researcher", 403), ("outsider", 403), (None, 403)],
)
def test_the_proxy_is_told_who_may_send_a_file(project, client_for, request, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get("/p/reviews/import/allowed/").status_code == status


def test_a_refused_body_is_read_to_its_end(owner, client_for):
    form, rows = "application/x-www-form-urlencoded", "application/json"
    for address, kind in (("/p/reviews/judge/", form), ("/api/v1/projects/reviews/prompts/", rows)):
        body = FakePayload(b"x" * 3_000_000)
        length = {"CONTENT_LENGTH": len(body), "CONTENT_TYPE": kind}
        environ = {"PATH_INFO": address, "REQUEST_METHOD": "POST", "wsgi.input": body, **length}
        assert client_for(owner).request(**environ).status_code == 413
        assert len(body) == 0


def test_an_admin_imports_a_large_file(owner, client_for):
    assert post(client_for(owner), "/p/reviews/import/", 3_000_000).status_code == 302
    assert Import.objects.get().size > 2_900_000


def test_a_disk_that_takes_no_upload_is_told(owner, client_for, temporary):
    refused = post(client_for(owner), "/p/reviews/import/", 3_000_000)
    assert refused.status_code == 507
    assert b"its disk is full" in refused.content
    assert not Import.objects.exists()


def test_an_import_beyond_the_limit_is_refused_unread(owner, client_for, settings, temporary):
    settings.IMPORT_LIMIT = 3_000_000
    refused = post(client_for(owner), "/p/reviews/import/", 4_000_000)
    assert refused.status_code == 413
    assert b"larger than this site takes" in refused.content
