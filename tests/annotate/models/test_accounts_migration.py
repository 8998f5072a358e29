"""The migration to unique names and addresses keeps every account that there was."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.chaos  # migrations that were released change no more


@pytest.mark.django_db(transaction=True)
def test_accounts_that_collide_keep_their_names(caplog):
    def migrate(targets):
        MigrationExecutor(connection).migrate(targets)
        return MigrationExecutor(connection).loader.project_state(targets).apps

    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        accounts = migrate([("annotate", "0002_triggers")]).get_model("annotate", "User")
        for username, email, is_superuser in (
            ("ada", "Ada@example.org", False),
            ("ADA", "ada@example.org", True),
            ("аda", "", False),  # a Cyrillic letter
            ("ben", "ada@EXAMPLE.org", False),
            ("chloe", "", False),
        ):
            accounts.objects.create(username=username, email=email, is_superuser=is_superuser)
    finally:
        migrate(newest)

    from annotate.models import TrailEntry, User

    found = {user.username: user for user in User.objects.all()}
    assert set(found) == {"ada", "ADA", "аda", "ben", "chloe"}
    assert {name for name, user in found.items() if user.email} == {"ADA"}
    assert found["ada"].username_key == "ada"
    assert caplog.text.count("look alike") == 2
    cleared = TrailEntry.objects.filter(verb="email_cleared")
    assert set(cleared.values_list("target", "details__email")) == {
        ("ada", "Ada@example.org"),
        ("ben", "ada@EXAMPLE.org"),
    }
    _go_on(found.values())


@pytest.mark.django_db(transaction=True)
def test_accounts_that_collide_by_later_rules_keep_their_names(caplog):
    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    old_keys = {
        "eva.": "eva.",
        "eva": "eva",
        "EVA": "eva 3",
        "eva\u1160": "eva\u1160",
        "ᴋɪᴍ": "ᴋɪᴍ",
        "zoe": "zoe",
    }
    executor = MigrationExecutor(connection)
    try:
        before = [("annotate", "0004_sign_in_attempts")]
        executor.migrate(before)
        accounts = (
            MigrationExecutor(connection).loader.project_state(before).apps.get_model("annotate", "User")
        )
        for username, key in old_keys.items():
            person = accounts.objects.create(username=f"new-{len(username)}-{accounts.objects.count()}")
            accounts.objects.filter(pk=person.pk).update(username=username, username_key=key)
    finally:
        MigrationExecutor(connection).migrate(newest)

    from annotate.models import User

    found = {user.username: user for user in User.objects.all()}
    assert set(found) == set(old_keys)
    assert [found[name].username_key for name in ("eva", "EVA", "ᴋɪᴍ", "zoe")] == [
        "eva",
        "eva 3",
        "kim",
        "zoe",
    ]
    for name in ("eva.", "eva\u1160"):
        assert found[name].username_key == f"eva {found[name].pk}"
    assert caplog.text.count("look alike") == 2
    _go_on(found.values())


def _go_on(users):
    for user in users:  # each goes on as it was
        user.first_name = "Same"
        user.full_clean(exclude=["password"])
        user.save()
