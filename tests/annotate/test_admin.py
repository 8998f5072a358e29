"""Django's admin: every list opens, and what people judged can be read but not written."""

import pytest
from django.contrib import admin
from django.urls import reverse

from annotate import judging, queue
from annotate.models import ApiToken, Judgment, Project
from annotate.pairs import take_snapshot

SACRED = ["policy", "prompt", "comparison", "judgment", "flag", "snapshot", "import"]


@pytest.fixture
def judged(project, teammate, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    judging.record(claim.token, teammate, judging.Verdict("prefer", claim.left_id, 2))
    take_snapshot(project, teammate)
    return project


def test_every_list_opens(judged, admin_client):
    for model in admin.site._registry:
        if model._meta.app_label == "annotate":
            url = reverse(f"admin:annotate_{model._meta.model_name}_changelist")
            assert admin_client.get(url).status_code == 200, url


@pytest.mark.parametrize("name", SACRED)
def test_sacred_rows_are_neither_added_nor_changed_nor_deleted(judged, admin_client, name):
    row = judged.judgments.first() if name == "judgment" else None
    assert admin_client.get(reverse(f"admin:annotate_{name}_add")).status_code == 403
    if row:
        for page in ("change", "delete"):
            answer = admin_client.post(
                reverse(f"admin:annotate_{name}_{page}", args=[row.pk]), {"post": "yes"}
            )
            assert answer.status_code == 403
        assert Judgment.objects.filter(pk=row.pk, verdict="prefer").exists()


def test_a_project_is_not_deleted_there(judged, admin_client):
    admin_client.post(reverse("admin:annotate_project_delete", args=[judged.pk]), {"post": "yes"})
    assert Project.objects.filter(pk=judged.pk).exists()


def test_a_token_can_be_revoked_and_not_read(owner, admin_client):
    row, token = ApiToken.issue(owner, "lost laptop")
    page = admin_client.get(reverse("admin:annotate_apitoken_change", args=[row.pk])).content.decode()
    assert "lost laptop" in page
    assert token not in page
    assert row.digest not in page
    admin_client.post(reverse("admin:annotate_apitoken_delete", args=[row.pk]), {"post": "yes"})
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": "\\ud800"}', "[" * 5_000, "9" * 5_000])
def test_json_that_cannot_be_stored_is_refused(project, admin_client, text):
    address = reverse("admin:annotate_project_change", args=[project.pk])
    page = admin_client.post(address, {"name": "Changed", "training_settings": text})
    assert page.status_code == 200
    assert page.context["adminform"].form.errors["training_settings"]
    assert not Project.objects.filter(name="Changed").exists()
