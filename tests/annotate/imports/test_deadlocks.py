"""Imports that meet another transaction in a deadlock, which PostgreSQL ends by refusing one of the two."""

import io
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection, transaction

from annotate.imports import uploads
from annotate.imports.files import reception
from annotate.imports.files.options import Options
from annotate.imports.files.whole import import_file, import_whole
from annotate.imports.records import parse
from annotate.imports.writing import write
from annotate.models import Comparison, Project
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer"),
]

ROW = {"prompt": "Once", "completion_a": "upon", "completion_b": "more", "id": "1"}
FILE = b'{"prompt": "Once", "completion_a": "upon", "completion_b": "more", "id": "2"}\n'


def stand_in_the_way(project: Project, stands: Event) -> None:
    """Lock the comparison, and then the project: an update of the comparison takes them in the other order."""

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
            return bool(cursor.fetchone()[0])

    try:
        with transaction.atomic():
            Comparison.objects.select_for_update().get()
            stands.set()
            wait_for(waits, 10)
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    finally:
        connection.close()


def by_command(project: Project, owner: Any) -> None:
    import_file(project, io.BytesIO(FILE), "jsonl", Options(container="jsonl"), "a.jsonl", update=True)


def as_a_whole(project: Project, owner: Any) -> None:
    import_whole(project, io.BytesIO(FILE), "jsonl", "a.jsonl", update=True)


def by_page(project: Project, owner: Any) -> None:
    upload = reception.receive(project, owner, ContentFile(FILE, "a.jsonl"))
    uploads.work(upload.pk, 30)
    assert uploads.start(uploads.work(upload.pk, 30), update=True)
    assert uploads.work(upload.pk, 30).state == "done"


@pytest.mark.parametrize("bring_in", [by_command, as_a_whole, by_page])
def test_an_import_that_meets_a_deadlock_is_tried_again(project, owner, bring_in) -> None:
    write(project, [(1, parse(ROW))])
    stands = Event()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(stand_in_the_way, project, stands)
        assert stands.wait(10)
        bring_in(project, owner)
        other.result(10)
    assert Comparison.objects.get().external_id == "2"
