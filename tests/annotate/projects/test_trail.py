"""The trail: every act is in it, it cannot be changed, and who may read it."""

import json
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from annotate.imports import records, writing
from annotate.models import ApiToken, Import, Membership, Project, Prompt, TrailEntry
from annotate.pairs.snapshots import take_snapshot
from annotate.projects import lifecycle, trail
from tests.annotate.models.test_models import refuses

URL = "/p/reviews/trail/"


def verbs(**kwargs):
    return list(TrailEntry.objects.filter(**kwargs).order_by("pk").values_list("verb", "who_name", "target"))


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)],
)
def test_only_admins_read_a_projects_trail(request, project, client_for, who, status):
    assert client_for(request.getfixturevalue(who) if who else None).get(URL).status_code == status


def test_changed_settings_are_called_as_on_their_page(project, owner, client_for):
    trail.record(trail.Verb.SETTINGS, owner, project=project, target="ask_rationale, reasons, lease_minutes")
    trail.record(trail.Verb.IMPORTED, owner, project=project, target="reasons, criteria")  # a file's name
    page = client_for(owner).get(URL).content.decode()
    assert "Ask for a rationale, Reasons, Minutes a claim lasts" in page
    assert "reasons, criteria" in page


def test_an_entry_is_neither_changed_nor_deleted(project, owner, teammate):
    entry = trail.record(trail.Verb.ROLE, owner, project=project, subject=teammate, role="admin")
    entries = TrailEntry.objects.filter(pk=entry.pk)
    assert refuses(lambda: entries.update(who_name="somebody else"))
    assert refuses(lambda: entries.update(who=teammate))
    assert refuses(entries.delete)
    assert refuses(entry.delete)


def test_an_entry_outlives_its_project_and_its_people(project, owner, outsider):
    entry = trail.record(trail.Verb.REMOVED, outsider, project=project, subject=owner)
    outsider.delete()
    project.delete()
    owner.delete()
    entry.refresh_from_db()
    assert (entry.who_name, entry.target) == ("otto", "olive")


def test_what_is_done_to_members_is_in_the_trail(project, owner, teammate, client_for):
    client, toni = client_for(owner), Membership.objects.get(user=teammate)
    for data in (
        {"action": "role", "role": "researcher"},
        {"action": "role", "role": "researcher"},  # nothing changed
        {"action": "link"},
        {"action": "admit"},
        {"action": "remove"},
    ):
        client.post(f"/p/reviews/members/{toni.pk}/", data)
    client.post("/p/reviews/members/new/", {"username": "nora", "role": "annotator"})
    assert verbs(project=project) == [
        ("role", "olive", "toni"),
        ("link_made", "olive", "toni"),
        ("admitted", "olive", "toni"),
        ("removed", "olive", "toni"),
        ("account", "olive", "nora"),
        ("link_made", "olive", "nora"),
    ]
    assert TrailEntry.objects.filter(verb="role").get().details == {
        "before": "annotator",
        "role": "researcher",
    }


def test_what_is_taken_out_is_in_the_trail(project, researcher, client_for, tmp_path):
    client = client_for(researcher)
    digest = take_snapshot(project, researcher).digest
    token = ApiToken.issue(researcher, "nightly")[1]
    for path in (
        "/p/reviews/export/pairs.csv?kind=gold",
        "/p/reviews/export/judgments.jsonl",
        f"/p/reviews/snapshots/{digest}/trl.jsonl",
    ):
        assert client.get(path).status_code == 200
    assert client.get("/p/reviews/export/pairs.csv?kind=nothing").status_code == 422
    api = client_for()
    headers = {"Authorization": f"Bearer {token}"}
    assert api.get("/api/v1/projects/reviews/pairs/", headers=headers).status_code == 200
    assert api.get(f"/api/v1/projects/reviews/snapshots/{digest}/exact/", headers=headers).status_code == 200
    call_command("export", "reviews", output=str(tmp_path / "out.jsonl"), stderr=StringIO())
    assert verbs(project=project) == [
        ("snapshot", "rosa", digest[:12]),
        ("exported", "rosa", "csv"),
        ("exported", "rosa", "judgments"),
        ("snapshot_exported", "rosa", digest[:12]),
        ("exported", "rosa", "jsonl"),
        ("snapshot_exported", "rosa", digest[:12]),
        ("exported", "", f"jsonl to {tmp_path / 'out.jsonl'}"),
    ]
    assert TrailEntry.objects.get(target="csv").details == {"kind": "gold"}
    assert "nightly" in TrailEntry.objects.get(who__username="rosa", target="jsonl").details["token"]


def test_what_is_brought_in_is_in_the_trail(project, owner, client_for, tmp_path):
    client = client_for(owner)
    client.post("/p/reviews/import/", {"text": "A quiet film"})
    assert verbs(project=project) == []  # it was checked, and nothing was imported
    upload = Import.objects.get()
    for _ in range(2):
        client.post(f"/p/reviews/import/{upload.pk}/start/")
    body = {"prompts": [{"prompt": "A loud film"}]}
    client.post("/api/v1/projects/reviews/prompts/", body, content_type="application/json")
    (tmp_path / "more.txt").write_text("A long film")
    call_command("import_prompts", "reviews", str(tmp_path / "more.txt"), stdout=StringIO())
    assert verbs(project=project) == [
        ("imported", "olive", upload.filename),
        ("imported", "olive", "prompts"),
        ("imported", "", str(tmp_path / "more.txt")),
    ]


def test_what_is_taken_out_of_use_is_in_the_trail(project, owner, client_for, make_comparisons):
    client, (one, *_others) = client_for(owner), make_comparisons(2)
    for act in ("withdraw", "withdraw", "restore", "restore"):  # the second of each changes nothing
        client.post(f"/p/reviews/comparisons/{one.pk}/change/", {"action": act})
    for act in ("withdraw", "restore", "hold_out", "give_back", "give_back"):
        client.post(f"/p/reviews/prompts/{one.prompt_id}/change/", {"action": act})
    client.post(f"/api/v1/projects/reviews/comparisons/{one.pk}/withdrawal/")
    comparison, prompt = f"comparison #{one.pk}", f"prompt #{one.prompt_id}"
    assert verbs(project=project) == [
        ("taken_out", "olive", comparison),
        ("put_back", "olive", comparison),
        ("taken_out", "olive", prompt),
        ("put_back", "olive", prompt),
        ("held_out", "olive", prompt),
        ("given_back", "olive", prompt),
        ("taken_out", "olive", comparison),
    ]


def test_withdrawn_imports_and_corrections_are_in_the_trail(project, owner, client_for):
    client = client_for(owner)
    client.post("/p/reviews/import/", {"text": "A quiet film"})
    upload = Import.objects.get()
    client.post(f"/p/reviews/import/{upload.pk}/start/")
    old = Prompt.objects.get(project=project)
    client.post(f"/p/reviews/prompts/{old.pk}/correct/", {"content": "A quieter film"})
    for _ in range(2):  # the second finds nothing left
        client.post(f"/p/reviews/import/{upload.pk}/withdraw/")
    assert verbs(project=project) == [
        ("imported", "olive", upload.filename),
        ("corrected", "olive", f"prompt #{old.pk}"),
        ("taken_out", "olive", f"the import {upload.filename}"),
    ]


@pytest.mark.parametrize("policy", ["starter", "twice"])
def test_an_import_that_takes_nothing_is_not_in_the_trail(project, owner, client_for, tmp_path, policy):
    row = {"prompt": "Once", "completion_a": "upon", "completion_b": "more", "policy_a": policy}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    if policy == "twice":
        writing.write(project, [(1, records.parse(row))])
    body = {"comparisons": [row]}
    client_for(owner).post("/api/v1/projects/reviews/comparisons/", body, content_type="application/json")
    with suppress(CommandError):
        call_command("import_prompts", "reviews", str(path), stdout=StringIO())
    assert verbs(project=project) == []


def test_what_is_done_to_a_project_is_in_the_trail(project, owner, client_for):
    made = lifecycle.create_project(owner, name="Another")
    assert verbs(project=made) == [("created", "olive", "Another")]
    client = client_for(owner)
    page = client.get("/p/reviews/settings/")
    data = {name: "" if value is None else value for name, value in page.context["form"].initial.items()}
    data |= {"reasons": "", "criteria": "", "training_settings": "{}", "sampling_settings": "{}"}
    data |= {"name": "Reviews of films", "base_model": "starter"}
    assert client.post("/p/reviews/settings/", data).status_code == 302
    client.post("/p/reviews/settings/archive/")
    client.post("/p/reviews/settings/archive/", {"restore": ""})
    assert verbs(project=project) == [
        ("settings", "olive", "name"),
        ("archived", "olive", ""),
        ("restored", "olive", ""),
    ]


def test_the_sites_keeper_leaves_a_trail_too(project, owner, teammate, outsider, admin_client, admin_user):
    address = reverse("admin:annotate_project_change", args=[project.pk])
    rows = list(project.memberships.order_by("pk"))
    form = {
        **{name: value for name, value in _fields(admin_client.get(address)).items() if value is not None},
        "memberships-TOTAL_FORMS": 3,
        "memberships-INITIAL_FORMS": 2,
        **{f"memberships-{i}-id": row.pk for i, row in enumerate(rows)},
        **{f"memberships-{i}-user": row.user_id for i, row in enumerate(rows)},
        "memberships-0-role": "admin",
        "memberships-1-role": "researcher",
        "memberships-2-user": outsider.pk,
        "memberships-2-role": "annotator",
    }
    assert admin_client.post(address, form).status_code == 302
    assert verbs(project=project) == [("added", "admin", "otto"), ("role", "admin", "toni")]
    again = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    admin_client.post(address, form | again | {"name": "Reviews of films", "guidelines": "Be fair."})
    new = form | again | {"name": "Other", "slug": "other"}
    admin_client.post(reverse("admin:annotate_project_add"), new)
    assert verbs(project=project)[2:] == [("settings", "admin", "name, guidelines")]
    assert verbs(project__slug="other") == [("created", "admin", "Other")]


def _fields(page):
    initial = page.context["adminform"].form.initial
    return {
        **initial,
        "reasons": "[]",
        "criteria": "[]",
        "training_settings": "{}",
        "sampling_settings": "{}",
        # What a browser sends along, to tell what was changed.
        "initial-reasons": "[]",
        "initial-criteria": "[]",
        "initial-training_settings": "{}",
        "initial-sampling_settings": "{}",
    }


def test_a_token_is_in_the_trail_of_its_account_alone(project, owner, client_for):
    client = client_for(owner)
    client.post("/tokens/", {"name": "nightly"})
    client.post(f"/tokens/{owner.api_tokens.get().pk}/revoke/")
    assert [verb for verb, _who, _target in verbs(subject=owner)] == ["token_made", "token_revoked"]
    assert "nightly" in client.get("/account/").content.decode()
    assert "nightly" not in client.get(URL).content.decode()


def test_an_account_shows_its_own_entries_alone(project, owner, teammate, client_for):
    other = Project.objects.create(slug="other", name="Other")
    trail.record(trail.Verb.LINK_MADE, owner, project=project, subject=teammate)
    trail.record(trail.Verb.EXPORTED, owner, project=other, target="pairs.csv")
    mine = client_for(teammate).get("/account/").content.decode()
    assert "Made a password link for" in mine
    assert "Film reviews" in mine
    assert "pairs.csv" not in mine
    assert "Made a password link for" not in client_for(owner).get("/account/").content.decode()
    assert client_for().get("/account/").status_code == 302


def test_the_trail_is_filtered_and_read_page_by_page(project, owner, teammate, client_for):
    for number in range(trail.PAGE):
        trail.record(trail.Verb.EXPORTED, teammate, project=project, target=f"file {number}")
    trail.record(trail.Verb.ROLE, owner, project=project, subject=teammate)
    client = client_for(owner)

    def seen(query):
        return [entry.target for entry in client.get(URL, query).context["entries"]]

    assert seen({"verb": "role"}) == ["toni"]
    assert seen({"person": "olive"}) == ["toni"]
    assert len(seen({"person": "toni"})) == trail.PAGE
    assert seen({"person": "nobody"}) == []
    page = client.get(URL)
    assert len(page.context["entries"]) == trail.PAGE
    older = client.get(f"{URL}?{page.context['older']}")
    assert [entry.target for entry in older.context["entries"]] == ["file 0"]
    assert older.context["older"] == ""
    assert client.get(URL, {"person": "\0", "verb": "\0"}).status_code == 200
    for before in ("abc", "-1", "²", "9" * 40):
        assert client.get(URL, {"before": before}).status_code == 200


def test_an_unknown_verb_is_named_in_the_filter(project, owner, client_for):
    answer = client_for(owner).get("/p/reviews/trail/?verb=nonsense")
    assert answer.status_code == 422
    assert "“nonsense” is unknown" in answer.content.decode()


def test_the_trail_keeps_each_version_of_the_guidelines(project, owner):
    for version in ("Prefer **short** answers.", "x" * 5_000):
        project.guidelines = version
        lifecycle.change_settings(project, owner, ["guidelines"], changed=["guidelines"])
    lifecycle.change_settings(project, owner, ["name"], changed=["name"])
    renamed, newest, before = trail.browse(project).entries
    assert renamed.details == {}
    assert [one.details["guidelines"] for one in (before, newest)] == [
        "Prefer **short** answers.",
        "x" * 5_000,
    ]
    [(_name, shown)] = newest.facts
    assert len(shown) == 200
