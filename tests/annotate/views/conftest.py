"""An upload as an admin makes it."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.models import Import
from tests.annotate.views.uploading import URL


@pytest.fixture
def upload(owner, client_for):
    """upload(bytes, name): the page after it, and the Import."""

    def upload(content, name="rows.jsonl", **data):
        page = client_for(owner).post(
            URL, {"file": SimpleUploadedFile(name, content), "format": "", **data}, follow=True
        )
        return page, Import.objects.order_by("-pk").first()

    return upload
