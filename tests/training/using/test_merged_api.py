"""Merged weights by the API: asked for in a precision, watched, cancelled and downloaded."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as site
from django.core.files.base import ContentFile
from django.utils import timezone

from annotate.models import ApiToken
from tests.annotate.api.caller import API, Caller
from tests.training.using import adapters
from training.models import MergedWeights

pytestmark = pytest.mark.once


@pytest.fixture
def script(owner: Any) -> Any:
    return Caller(ApiToken.issue(owner, "a test")[1])


@pytest.fixture
def send(script: Any) -> Any:
    def send(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        given = json.dumps(body) if body is not None else ""
        place = f"{API}reviews/{path}"
        answer = script.client.generic(method, place, given, content_type="application/json")
        return answer.status_code, answer.json()

    return send


@pytest.mark.usefixtures("sent")
def test_a_policy_is_merged_in_the_precision_that_is_asked_for(finished: Any, send: Any) -> None:
    adapters.write(finished.run_dir / "adapter", base_model_name_or_path=str(site.STARTER_MODEL))
    place = f"policies/{finished.result_policy_id}/merged/"
    status, wide = send("POST", place, {"precision": "float32"})
    assert (status, wide["precision"], wide["state"], wide["dtype"]) == (202, "float32", "queued", "")
    assert wide["filename"] == "reviews-round-1-merged-float32.tar"
    assert send("POST", place, {"precision": "float32"})[1]["id"] == wide["id"]
    usual = send("POST", place)[1]
    assert usual["precision"] == "base"
    assert [one["id"] for one in send("GET", place)[1]["results"]] == [usual["id"], wide["id"]]
    status, refused = send("POST", place, {"precision": "int8"})
    assert (status, refused["field"], "float32" in refused["error"]) == (400, "precision", True)
    here = f"merged/{wide['id']}/"
    assert send("GET", f"{here}file/")[0] == 404
    assert send("POST", f"{here}cancel/")[1]["state"] == "cancelled"
    assert send("POST", f"{here}cancel/")[0] == 409
    assert send("GET", here)[1]["state"] == "cancelled"


def test_merged_weights_are_downloaded_once(finished: Any, script: Any) -> None:
    merge = MergedWeights(
        policy=finished.result_policy, filename="x-merged.tar", sha256="0" * 64, state="done"
    )
    merge.expires_at = timezone.now() + timedelta(days=1)
    merge.file.save("x", ContentFile(b"weights"))
    place = f"reviews/merged/{merge.pk}/file/"
    answer = script.get(place)
    assert (b"".join(answer.streaming_content), answer.headers["ETag"]) == (b"weights", f'"{merge.sha256}"')
    again = script.client.get(f"{API}{place}", headers={"If-None-Match": f'"{merge.sha256}"'})
    assert again.status_code == 304


def test_a_policy_without_an_adapter_cannot_be_merged(project: Any, send: Any) -> None:
    status, refused = send("POST", f"policies/{project.current_policy_id}/merged/")
    assert (status, "no adapter to merge" in refused["error"]) == (400, True)
