"""A database at another migration than the newest, for tests of migrations with data."""

from collections.abc import Iterator
from typing import Any

import pytest


def migrate(targets: list[Any]) -> Any:
    """Go to these migrations and return the models as they were."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    MigrationExecutor(connection).migrate(targets)
    return MigrationExecutor(connection).loader.project_state(targets).apps


@pytest.fixture
def newest(transactional_db: None) -> Iterator[list[Any]]:
    """Return the newest migrations, to which the database goes back."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    nodes = MigrationExecutor(connection).loader.graph.leaf_nodes()
    yield nodes
    migrate(nodes)
