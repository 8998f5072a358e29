"""Imports that meet another transaction in a deadlock, which PostgreSQL ends by refusing one of the two."""

import io
from typing import Any

import pytest
from django.core.files.base import ContentFile

from annotate.imports import uploads
from annotate.imports.files import reception
from annotate.imports.files.options import Options
from annotate.imports.files.whole import import_file, import_whole
from annotate.imports.records import parse
from annotate.imports.writing import write
from annotate.models import Comparison, Project
from tests.deadlocks import MARKS, in_the_way

pytestmark = MARKS

ROW = {"prompt": "Once", "completion_a": "upon", "completion_b": "more", "id": "1"}
FILE = b'{"prompt": "Once", "completion_a": "upon", "completion_b": "more", "id": "2"}\n'


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
    with in_the_way(project, Comparison.objects.all()):  # which an update locks before the project
        bring_in(project, owner)
    assert Comparison.objects.get().external_id == "2"
