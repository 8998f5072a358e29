"""The migration to unique names and addresses keeps every account that there was."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor


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
    for user in found.values():  # each goes on as it was
        user.first_name = "Same"
        user.full_clean(exclude=["password"])
        user.save()
