"""An annotator's browser, and an upload as an admin makes it."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.models import Import
from tests.annotate.views.uploading import URL


@pytest.fixture
def desk(client_for: Any, teammate: Any, make_comparisons: Any) -> Client:
    """Return an annotator's browser, with three comparisons to judge."""
    make_comparisons(3)
    client: Client = client_for(teammate)
    return client


@pytest.fixture
def upload(owner, client_for):
    """upload(bytes, name): the page after it, and the Import."""

    def upload(content, name="rows.jsonl", **data):
        page = client_for(owner).post(
            URL, {"file": SimpleUploadedFile(name, content), "format": "", **data}, follow=True
        )
        return page, Import.objects.order_by("-pk").first()

    return upload
