"""A web server or worker of the version before goes on beside a database that was migrated."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import migrations
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

from annotate.models import triggers

# The newest migrations that broke this (docs/operating.md, "Upgrades").
BEFORE = {"annotate": "0015", "training": "0012"}
# What changes rows in a way that the version before can live with, and why.
REVIEWED = {
    # It adds to columns that stay. A comparison that the version before closes meanwhile is closed without a note.
    ("annotate", "0020_closed_to_people", "note_closed"),
}
GONE = (
    migrations.RemoveField,
    migrations.RenameField,
    migrations.DeleteModel,
    migrations.RenameModel,
    migrations.AlterModelTable,
)


def operations(app: str) -> Iterator[tuple[str, Any]]:
    loader = MigrationLoader(None)
    for label, name in sorted(loader.disk_migrations):
        if label == app and name[:4] > BEFORE[app]:
            for operation in loader.disk_migrations[label, name].operations:
                yield name, operation


@pytest.mark.parametrize("app", BEFORE)
def test_a_new_column_needs_nothing_of_the_version_before(app: str) -> None:
    for name, operation in operations(app):
        if isinstance(operation, migrations.AddField):
            field = operation.field
            is_filled = field.null or field.many_to_many or field.db_default is not NOT_PROVIDED
            assert is_filled or field.generated, f"{app} {name}: give {operation.name} a db_default"


@pytest.mark.parametrize("app", BEFORE)
def test_no_column_leaves_while_the_version_before_reads_it(app: str) -> None:
    gone = [f"{app} {name}: {type(one).__name__}" for name, one in operations(app) if isinstance(one, GONE)]
    assert gone == []


@pytest.mark.parametrize("app", BEFORE)
def test_no_rows_move_that_the_version_before_writes(app: str) -> None:
    """After such a move, it goes on writing where the new version does not look."""
    moves = {
        (app, name, one.code.__name__)
        for name, one in operations(app)
        if isinstance(one, migrations.RunPython)
        and one.code is not migrations.RunPython.noop
        and one.code.__module__ != triggers.__name__
    }
    assert moves <= REVIEWED
    written = [f"{app} {name}" for name, one in operations(app) if isinstance(one, migrations.RunSQL)]
    assert written == []


def test_the_documentation_names_the_migrations() -> None:
    text = (settings.BASE_DIR / "docs" / "operating.md").read_text()
    assert f"`annotate {BEFORE['annotate']}` and `training {BEFORE['training']}`" in text
