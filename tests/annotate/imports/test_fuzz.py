"""No input file makes the site fail, or leaves an import that never ends."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from hypothesis import HealthCheck, given, settings

from annotate.imports.files.options import Options
from annotate.models import Import, User
from tests.annotate.imports.files import random_file, random_files
from tests.annotate.views.uploading import URL

FILES = 20_000
ENDED = (Import.State.REFUSED, Import.State.DONE)
AT_WORK = (Import.State.CHECKING, Import.State.RUNNING)
STEPS = 20  # of such small files: a step of each is enough on an idle machine


def bring_in(client: Client, name: str, content: bytes) -> None:
    """Upload a file on the page, look at what became of it, and import it if it was found right."""
    answer = client.post(URL, {"file": SimpleUploadedFile(name, content), "format": ""})
    if answer.status_code == 422:  # no file that can be read at all
        assert answer.context["form"].errors["file"], (name, content)
        return
    assert answer.status_code == 302, (name, content)
    page = client.get(answer.url)
    assert page.status_code == 200, (name, content)
    upload = page.context["upload"]
    poll(client, answer.url, upload)
    if upload.state == Import.State.MAPPING:
        columns = {"by_hand": "on", "column_prompt": Options.of(upload).columns[0]}
        client.post(f"{answer.url}check/", columns)
        poll(client, answer.url, upload)
    if upload.state == Import.State.READY:
        client.post(f"{answer.url}start/")
        assert client.get(answer.url).status_code == 200, (name, content)
        poll(client, answer.url, upload)
    assert upload.state in ENDED, (name, content)
    assert not any("went wrong on the server" in sentence for _line, sentence in upload.errors), (
        name,
        content,
    )


def poll(client: Client, address: str, upload: Import) -> None:
    """Let the page work on, as it does where a busy machine took longer for one step than a request may."""
    for _ in range(STEPS):
        upload.refresh_from_db()
        if upload.state not in AT_WORK:
            return
        assert client.post(address).status_code == 200


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(random_files)
def test_every_file_is_imported_or_refused(
    project: object, owner: User, client_for: object, file: tuple
) -> None:
    bring_in(client_for(owner), *file)


@pytest.mark.fuzz
@pytest.mark.timeout(3_600)
def test_20_000_random_files_are_imported_or_refused(
    project: object, owner: User, client_for: object
) -> None:
    client = client_for(owner)
    for seed in range(FILES):
        bring_in(client, *random_file(seed))
    assert Import.objects.filter(state=Import.State.DONE).count() > FILES / 20
    assert Import.objects.filter(state=Import.State.REFUSED).count() > FILES / 4
