"""The seed of `make demo`, and its repair. The command itself is in test_demo_command.py."""

import json
import stat

import pytest
from django.db import connection

from annotate.models import Comparison, Completion, Membership, Project, Role, User
from training.demo import instance, seed
from training.demo.supervisor import ProcessError
from training.engine.starter.reviews import reward

pytestmark = pytest.mark.once  # no query is special to a database


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path):
    """Logins and run directories of each test lie in a folder of its own."""
    settings.VAR = tmp_path
    settings.RUNS = tmp_path / "runs"


@pytest.fixture
def said():
    return []


def test_the_demo_has_prompts_samples_gold_and_people(db, said, client):
    logins = seed.seed(said.append)
    project = Project.objects.get(slug=seed.SLUG)
    prompts = project.prompts.filter(external_id__startswith="opening-")
    assert prompts.count() >= 120
    assert project.prompts.filter(held_out=True).count() >= seed.FOR_GATES
    # A tenth in expectation: of 160 prompts, 4 to 32 with more than 99.9 % probability.
    assert 4 <= prompts.filter(held_out=True).count() <= 32
    assert "##" in project.guidelines

    comparisons = list(project.comparisons.select_related("first", "second", "first__policy", "prompt"))
    assert len(comparisons) >= 0.95 * prompts.count()
    assert len({comparison.prompt_id for comparison in comparisons}) == len(comparisons)
    for comparison in comparisons:
        for completion in (comparison.first, comparison.second):
            assert completion.policy == project.current_policy
            assert completion.token_ids
            assert completion.logprob < 0
            assert completion.seed is not None
            assert completion.finish_reason in ("stop", "length")

    gold = [comparison for comparison in comparisons if comparison.kind == Comparison.Kind.GOLD]
    assert len(gold) == seed.GOLD
    for comparison in gold:
        other = comparison.second if comparison.gold_preferred == comparison.first else comparison.first
        assert reward(comparison.gold_preferred.text) - reward(other.text) >= seed.CLEAR_CUT
        assert not comparison.prompt.held_out

    roles = sorted(Membership.objects.filter(project=project).values_list("role", flat=True))
    assert roles == [Role.ADMIN, Role.ANNOTATOR, Role.ANNOTATOR, Role.RESEARCHER]
    assert all(client.login(username=login.username, password=login.password) for login in logins)
    assert said == ["The starter model writes 320 completions ..."]

    # Again: nothing is made twice, the logins stay.
    counts = (Completion.objects.count(), Comparison.objects.count(), User.objects.count())
    assert seed.seed(said.append) == logins
    assert (Completion.objects.count(), Comparison.objects.count(), User.objects.count()) == counts
    assert len(said) == 1


@pytest.mark.chaos
@pytest.mark.once
def test_what_an_interrupted_seeding_left_out_is_made_up_for(db, said, monkeypatch):
    monkeypatch.setattr(seed, "PROMPTS", 12)
    project = seed.make_project()
    kept = seed.add_prompts(project, seed.reviews.openings(5))  # killed before anything was sampled
    seed.seed(said.append)
    assert project.prompts.filter(external_id__startswith="opening-").count() == 12
    assert set(kept) <= set(project.prompts.all())
    made = set(project.comparisons.values_list("pk", flat=True))
    lost = project.comparisons.order_by("pk")[:2]
    prompts = {comparison.prompt_id for comparison in lost}
    for comparison in lost:
        comparison.delete()
    seed.seed(said.append)
    again = project.comparisons.exclude(pk__in=made)
    assert {comparison.prompt_id for comparison in again} == prompts


def test_demo_passwords_are_per_install_and_private(db, settings):
    logins = seed.make_people(seed.make_project())
    file = settings.VAR / seed.LOGINS
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry["password"] for entry in json.loads(file.read_text())] == [
        login.password for login in logins
    ]
    assert len({login.password for login in logins}) == len(logins)
    file.unlink()
    assert all(
        before.password != after.password
        for before, after in zip(logins, seed.make_people(seed.make_project()), strict=True)
    )


@pytest.mark.parametrize("content", ["", "[", '[{"username": "ada"}]', "{}"])
def test_a_torn_file_of_logins_is_made_again(db, settings, content, client):
    (settings.VAR / seed.LOGINS).write_text(content)
    logins = seed.make_people(seed.make_project())
    assert all(client.login(username=login.username, password=login.password) for login in logins)


def test_a_changed_demo_password_returns_to_the_printed_one(db, client):
    logins = seed.make_people(seed.make_project())
    user = User.objects.get(username="ada")
    user.set_password("something else")
    user.save()
    assert seed.make_people(seed.make_project()) == logins
    assert client.login(username="ada", password=logins[0].password)


def test_an_account_that_is_not_the_demos_is_never_touched(db):
    User.objects.create_user("ada", email="ada@example.org", password="her own")
    with pytest.raises(seed.DemoError, match="account named ada that is not the demo's"):
        seed.make_people(seed.make_project())
    assert User.objects.get(username="ada").check_password("her own")


def test_only_the_admin_may_add_projects(db):
    seed.make_people(seed.make_project())
    able = [user.username for user in User.objects.all() if user.has_perm("annotate.add_project")]
    assert able == ["ada"]


def test_a_role_that_an_admin_changed_stays(db):
    project = seed.make_project()
    seed.make_people(project)
    Membership.objects.filter(user__username="ben").update(role=Role.RESEARCHER)
    seed.make_people(project)
    assert Membership.objects.get(user__username="ben").role == Role.RESEARCHER


def test_a_reset_sets_the_state_aside_and_keeps_the_secret_key(settings, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "NAME", str(settings.VAR / "db.sqlite3"))
    for name in ("db.sqlite3", "demo-logins.json", "secret_key", "loop.json"):
        (settings.VAR / name).write_text(name)
    (settings.VAR / "runs" / "film-reviews-1").mkdir(parents=True)
    instance.reset()
    assert {path.name for path in settings.VAR.iterdir()} >= {"secret_key", "loop.json", "before-reset"}
    assert not (settings.VAR / "db.sqlite3").exists()
    assert (settings.VAR / "before-reset" / "db.sqlite3").read_text() == "db.sqlite3"
    assert (settings.VAR / "before-reset" / "runs" / "film-reviews-1").is_dir()
    instance.reset()  # nothing to set aside any more
    assert list((settings.VAR / "before-reset").iterdir()) == []


def test_a_reset_never_touches_a_database_that_somebody_named(settings, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "NAME", "production")
    (settings.VAR / "runs").mkdir()
    with pytest.raises(ProcessError, match="DATABASE_URL names another one"):
        instance.reset()
    assert (settings.VAR / "runs").is_dir()
