"""Django's admin: every list opens, and what people judged can be read but not written."""

import pytest
from django.contrib import admin
from django.urls import reverse

from annotate.models import ApiToken, Judgment, Project, TrailEntry, User
from annotate.pairs.snapshots import take_snapshot
from tests.factories import judge

SACRED = ["policy", "prompt", "comparison", "judgment", "flag", "snapshot", "import", "trailentry"]


@pytest.fixture
def judged(project, teammate, make_comparisons):
    make_comparisons(1)
    judge(project, teammate, "left")
    take_snapshot(project, teammate)
    return project


def test_every_list_opens(judged, admin_client):
    for model in admin.site._registry:
        if model._meta.app_label == "annotate":
            url = reverse(f"admin:annotate_{model._meta.model_name}_changelist")
            assert admin_client.get(url).status_code == 200, url


def test_no_list_hands_a_nul_to_the_database(judged, admin_client):
    for model, page in admin.site._registry.items():
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        names = [field.name for field in model._meta.fields]
        for name in (*names, "q", "o", "p", *page.list_filter):
            assert admin_client.get(url, {name: "\0"}).status_code == 400, (url, name)
    assert admin_client.get("/admin/annotate/user/%00/change/").status_code == 400


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


# --- Accounts -------------------------------------------------------------------------------------------------------


def change(admin_client, person, **fields):
    """Send the page of this account with these fields changed."""
    address = reverse("admin:annotate_user_change", args=[person.pk])
    form = admin_client.get(address).context["adminform"].form
    data = {name: form.initial.get(name) for name in form.fields}
    joined = data.pop("date_joined")
    data |= {
        "date_joined_0": joined.date(),
        "date_joined_1": joined.time(),
        "last_login_0": "",
        "last_login_1": "",
    }
    data = {name: value for name, value in (data | fields).items() if value not in (None, False)}
    page = admin_client.post(address, data, follow=True)
    person.refresh_from_db()
    return page.content.decode()


def test_an_address_is_confirmed_and_a_new_one_is_not(outsider, admin_client):
    page = change(admin_client, outsider, email="otto@example.org", email_confirmed="on")
    assert outsider.has_confirmed_email
    page = change(admin_client, outsider, email="otto@example.com")
    assert "The new email address is not confirmed." in page
    assert not outsider.has_confirmed_email
    change(admin_client, outsider, email_confirmed="on")
    assert outsider.has_confirmed_email
    change(admin_client, outsider, email_confirmed=False)
    assert not outsider.has_confirmed_email
    assert TrailEntry.objects.filter(verb="email", who_name="admin", target="otto").count() == 2


def test_addresses_are_confirmed_from_the_list(outsider, owner, admin_client):
    User.objects.filter(pk=outsider.pk).update(email="otto@example.org")
    data = {"action": "confirm_email", "_selected_action": [outsider.pk, owner.pk]}
    page = admin_client.post(reverse("admin:annotate_user_changelist"), data, follow=True)
    assert "1 address confirmed." in page.content.decode()
    outsider.refresh_from_db()
    owner.refresh_from_db()
    assert outsider.has_confirmed_email
    assert not owner.has_confirmed_email


def test_an_address_or_a_look_alike_name_is_refused_there_too(outsider, owner, admin_client):
    change(admin_client, owner, email="olive@example.org")
    assert "Another account has this email address." in change(
        admin_client, outsider, email="OLIVE@example.org"
    )
    for username in ("OLIVE", "оlive"):
        page = change(admin_client, outsider, username=username)
        assert "already exists" in page or "mixes" in page
        assert outsider.username == "otto"


def test_a_revoked_token_is_in_the_trail(owner, admin_client):
    row, _token = ApiToken.issue(owner, "lost laptop")
    data = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    admin_client.post(reverse("admin:annotate_apitoken_changelist"), data)
    assert not ApiToken.objects.exists()
    assert TrailEntry.objects.get(verb="token_revoked").who_name == "admin"
