"""A project's settings, new projects, and archiving."""

import shutil

import pytest
from django.conf import settings as site
from django.contrib.auth.models import Permission
from django.db import connection

from annotate.models import Comparison, Membership, Policy, Project, TrailEntry, stored_aspects
from annotate.people import reading
from tests.factories import SKIP, TIE

pytestmark = pytest.mark.once  # forms and pages, whatever the database

URL = "/p/reviews/settings/"


@pytest.fixture(autouse=True)
def _every_model_is_allowed(settings, tmp_path):
    settings.BASE_MODELS = ["*", str(tmp_path)]


@pytest.fixture
def fields():
    """Return a form as the browser sends it, every setting at its default."""
    return {
        "name": "Film reviews",
        "guidelines": "Prefer the vivid one.",
        "judgments_needed": "1",
        "lease_minutes": "10",
        "gold_rate": "0.1",
        "gold_feedback": "silent",
        "repeat_rate": "0",
        "qualification_size": "0",
        "qualification_pass": "0.8",
        "min_seconds": "1.5",
        "reasons": "",
        "criteria": "",
        "held_out_share": "0.1",
        "training_settings": "{}",
        "sampling_settings": "{}",
    }


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)],
)
def test_only_admins_see_the_settings(request, project, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(URL).status_code == status


@pytest.mark.parametrize("who", ["teammate", "researcher", "outsider"])
def test_nobody_else_changes_them(request, project, fields, client_for, who):
    client = client_for(request.getfixturevalue(who))
    assert client.post(URL, fields | {"name": "Taken"}).status_code in (403, 404)
    assert client.post(f"{URL}archive/").status_code in (403, 404)
    assert client.post(f"{URL}preview/", {"guidelines": "x"}).status_code in (403, 404)
    project.refresh_from_db()
    assert (project.name, project.archived_at) == ("Film reviews", None)


def test_every_setting_is_on_the_page(project, owner, client_for):
    page = client_for(owner).get(URL).content.decode()
    shown_elsewhere = {"id", "slug", "created_at", "archived_at", "current_policy"}
    for field in Project._meta.fields:
        if field.name not in shown_elsewhere:
            assert f'name="{field.name}"' in page, field.name


def test_settings_are_saved(project, owner, fields, client_for):
    fields |= {
        "reasons": "  more vivid \n\nmore vivid\nfewer clichés",
        "criteria": "honest",
        "ask_rationale": "on",
        "training_settings": '{"beta": 0.2}',
    }
    assert client_for(owner).post(URL, fields).status_code == 302
    project.refresh_from_db()
    # Trimmed, without blanks and repeats.
    assert project.reasons == stored_aspects(["more vivid", "fewer clichés"])
    assert project.criteria == [{"key": "honest", "title": "honest"}]
    assert project.ask_rationale
    assert not project.show_agreement  # an unticked box
    assert project.training_settings == {"beta": 0.2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("judgments_needed", "0"),
        ("judgments_needed", "51"),
        ("lease_minutes", "241"),
        ("gold_rate", "0.6"),
        ("gold_rate", "nan"),
        ("min_seconds", "-1"),
        ("min_seconds", "inf"),
        ("qualification_pass", "1.01"),
        ("reasons", "x" * 61),
        ("criteria", "\n".join(f"criterion {n}" for n in range(9))),
        ("training_settings", "[1]"),
        ("training_settings", "{beta"),
        ("training_settings", '{"a": "\\u0000"}'),
        ("training_settings", '{"a": "\\ud800"}'),
        ("training_settings", '{"\\ud800": 1}'),
        ("training_settings", '{"a": 1e999}'),
        ("training_settings", '{"a": NaN}'),
        ("training_settings", '{"a": ' * 33 + "1" + "}" * 33),
        ("training_settings", '{"a": ' * 990 + "1" + "}" * 990),
        ("training_settings", "[" * 5_000),
        ("training_settings", '{"a": ' + "9" * 5_000 + "}"),
        ("sampling_settings", '{"a": ' + "9" * 20 + "}"),
        ("sampling_settings", '{"a": "' + "x" * 70_000 + '"}'),
        ("sampling_settings", "{\x00}"),
        ("reasons", "vivid\x00"),
        ("criteria", "honest\n\x00"),
        ("guidelines", "\x00"),
        ("gold_feedback", "loud"),
    ],
)
def test_a_bad_setting_is_refused_by_field_and_saves_nothing(
    project, owner, fields, client_for, field, value
):
    before = Project.objects.values().get()
    answer = client_for(owner).post(URL, fields | {"guidelines": "changed", field: value})
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in answer.content.decode()
    assert Project.objects.values().get() == before


def test_a_setting_that_no_page_can_hold_does_not_break_the_page(
    project, owner, researcher, fields, client_for
):
    """As an earlier version stored it, on a database that takes it."""
    if connection.vendor == "postgresql":
        project.sampling_settings = {"a": 1e300}
    else:
        project.sampling_settings = {"a": "\ud800"}
    project.save()
    client = client_for(owner)
    assert client.get(URL).status_code == 200
    assert client.get("/p/reviews/rounds/").status_code == 200
    assert client.post(URL, fields).status_code == 302
    project.refresh_from_db()
    assert project.sampling_settings == {}


def test_a_refused_name_is_not_shown_as_the_projects_name(project, owner, fields, client_for):
    answer = client_for(owner).post(URL, fields | {"name": "Another", "gold_rate": "9"})
    assert '<span dir="auto">Film reviews</span>' in answer.content.decode()


def test_more_judgments_can_be_asked_of_comparisons_made_so_far(
    project, owner, fields, make_comparisons, client_for
):
    make_comparisons(2)
    make_comparisons(1, kind="gold")
    client = client_for(owner)
    client.post(URL, fields | {"judgments_needed": "3"})
    assert set(Comparison.objects.values_list("needed", flat=True)) == {1}
    client.post(URL, fields | {"judgments_needed": "3", "apply_needed": "on"})
    assert set(Comparison.objects.filter(kind="standard").values_list("needed", flat=True)) == {3}
    assert Comparison.objects.get(kind="gold").needed == 1


def test_fewer_judgments_never_fall_below_what_was_given(
    project, owner, teammate, fields, make_comparisons, client_for
):
    """Or more judgments would stand than are needed, and counters would lie."""
    from annotate.judgments import judging
    from annotate.queueing import queue

    [comparison, untouched] = make_comparisons(2, needed=3)
    for person in (owner, teammate):
        while True:
            claim = queue.claim(project, person)
            if claim.comparison_id == comparison.pk:
                judging.record(project, person, claim.token, TIE)
                break
            judging.record(project, person, claim.token, SKIP)
    client_for(owner).post(URL, fields | {"apply_needed": "on"})
    comparison.refresh_from_db()
    untouched.refresh_from_db()
    assert (comparison.needed, untouched.needed) == (2, 1)


def test_an_archived_project_leaves_the_lists_and_can_return(project, owner, teammate, client_for):
    client = client_for(owner)
    client.post(f"{URL}archive/")
    project.refresh_from_db()
    assert project.archived_at
    assert b"Reopen it" in client.get(URL).content
    assert b"Film reviews" not in client_for(teammate).get("/").content
    assert b"Archived" in client.get("/").content  # where an admin finds it
    client.post(f"{URL}archive/", {"restore": ""})
    project.refresh_from_db()
    assert project.archived_at is None


def test_the_preview_is_rendered_and_clean(project, owner, client_for):
    answer = client_for(owner).post(
        f"{URL}preview/", {"guidelines": "# Title\n\n**bold** <script>alert(1)</script>"}
    )
    page = answer.content.decode()
    assert "<strong>bold</strong>" in page
    assert "<script>alert" not in page


def test_a_base_model_can_be_named_where_there_is_none(project, owner, fields, client_for):
    Project.objects.update(current_policy=None)
    Policy.objects.all().delete()
    client_for(owner).post(URL, fields | {"base_model": "hub/other"})
    policy = Project.objects.get().current_policy
    assert (policy.name, policy.base_model, policy.kind) == ("other", "hub/other", "base")


def test_a_base_model_can_be_corrected_until_it_has_written(
    project, owner, fields, client_for, make_comparisons
):
    client = client_for(owner)
    client.post(URL, fields | {"base_model": "hub/right"})
    project.refresh_from_db()
    policy = Policy.objects.get()  # and no other: nothing came of the first
    assert (policy, policy.name, policy.base_model) == (project.current_policy, "right", "hub/right")
    make_comparisons(1, policy=policy)
    client.post(URL, fields | {"base_model": "hub/third"})
    assert Policy.objects.get().base_model == "hub/right"
    assert 'name="base_model"' not in client.get(URL).content.decode()


def test_a_base_model_gets_another_name_than_an_imported_policy(project, owner, fields, client_for):
    Policy.objects.create(project=project, name="Qwen2.5-0.5B", kind=Policy.Kind.EXTERNAL)
    answer = client_for(owner).post(URL, fields | {"base_model": "Qwen/Qwen2.5-0.5B"})
    assert answer.status_code == 302
    assert Project.objects.get().current_policy.name == "Qwen/Qwen2.5-0.5B"


def test_a_missing_folder_is_refused_and_changes_nothing(project, owner, fields, client_for):
    answer = client_for(owner).post(URL, fields | {"name": "Other", "base_model": "/no/such/model"})
    assert answer.status_code == 422
    assert "The base model “/no/such/model” does not exist, or is not among" in answer.content.decode()
    assert Project.objects.get().name == "Film reviews"
    assert Policy.objects.get().base_model == "starter"


def test_a_new_project_needs_the_permission(owner, client_for):
    data = {"name": "Poems", "base_model": "starter", "judgments_needed": "2"}
    client = client_for(owner)
    assert client.get("/new/").status_code == 403
    assert client.post("/new/", data).status_code == 403
    assert client_for().get("/new/").status_code == 302
    owner.user_permissions.add(Permission.objects.get(codename="add_project"))
    assert client.get("/new/").status_code == 200
    assert client.post("/new/", data).url == "/p/poems/import/"
    made = Project.objects.get(slug="poems")
    assert Membership.objects.get(project=made).user == owner
    assert Membership.objects.get(project=made).role == "admin"
    assert (made.judgments_needed, made.current_policy.base_model) == (2, "starter")


def test_two_projects_of_one_name_get_two_addresses(admin_client, db):
    for _ in range(2):
        admin_client.post("/new/", {"name": "Poems", "base_model": "", "judgments_needed": "1"})
    assert set(Project.objects.values_list("slug", flat=True)) == {"poems", "poems-2"}
    assert Policy.objects.count() == 0


def test_an_unchecked_base_model_warns_until_it_has_written(
    project, owner, fields, make_comparisons, client_for
):
    name = "no/such-model"
    client = client_for(owner)
    client.post(URL, fields | {"base_model": name})
    for page in (client.get("/p/reviews/"), client.get(URL)):
        assert "has not been checked" in page.content.decode()
        assert f"<strong>{name}</strong>" in page.content.decode()
    project.refresh_from_db()
    make_comparisons(1)
    for page in (client.get("/p/reviews/"), client.get(URL)):
        assert "has not been checked" not in page.content.decode()
    assert f"Samples come from {name}." in client.get("/p/reviews/").content.decode()


def test_a_base_model_that_this_machine_has_is_not_warned_of(
    project, owner, fields, client_for, settings, tmp_path
):
    settings.HUB_CACHE = tmp_path
    (tmp_path / "models--hub--here" / "snapshots").mkdir(parents=True)
    shutil.copytree(site.STARTER_MODEL, tmp_path / "model")
    client = client_for(owner)
    for name in ("starter", "hub/here", str(tmp_path / "model")):
        client.post(URL, fields | {"base_model": name})
        assert Policy.objects.get().base_model == name
        assert b"has not been checked" not in client.get("/p/reviews/").content


def test_a_new_project_says_that_its_base_model_is_unchecked(admin_client):
    data = {"name": "Poems", "base_model": "no/such-model", "judgments_needed": "1"}
    page = admin_client.post("/new/", data, follow=True)
    assert "“no/such-model” is not on this server" in page.content.decode()


@pytest.mark.parametrize("written", ["One.\n\nTwo.\n", "One.\r\n\r\nTwo.", "\r\n One.\r\n\nTwo.\r\n "])
def test_guidelines_that_nobody_touched_stay(project, owner, teammate, fields, client_for, written):
    """A browser ends each line of a text with CR and LF."""
    project.guidelines = written
    project.save()
    Membership.objects.update(guidelines_read=reading.version_of(written))
    sent = written.replace("\r\n", "\n").replace("\n", "\r\n")
    client_for(owner).post(URL, fields | {"name": "Reviews", "guidelines": sent})
    project.refresh_from_db()
    assert project.name == "Reviews"
    assert project.guidelines == written
    entry = TrailEntry.objects.get(verb="settings")
    assert "guidelines" not in entry.target
    assert "guidelines" not in entry.details
    for membership in project.memberships.all():
        assert not reading.has_unread_guidelines(membership)


def test_guidelines_that_were_changed_are_recorded_as_stored(project, owner, fields, client_for):
    project.guidelines = "One.\r\n\r\nTwo."
    project.save()
    client_for(owner).post(URL, fields | {"guidelines": "One.\r\n\r\nThree.\r\n"})
    project.refresh_from_db()
    assert project.guidelines == "One.\n\nThree."
    assert TrailEntry.objects.get(verb="settings").details == {"guidelines": project.guidelines}
