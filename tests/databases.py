"""One database migrated for all the workers of a test run: the first that needs one makes it, the others copy it.

Migrating costs seven seconds of processor time, and more with each migration.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

TEMPLATE = "whetstone_template"


class Template:
    """The copy that workers share, below the folder of the test run. `lock` is held by the one that makes it."""

    def __init__(self, folder: Path) -> None:
        self.made = folder / TEMPLATE
        self.lock = FileLock(folder / f"{TEMPLATE}.lock")

    def keep(self) -> None:
        """Copy this worker's database, just migrated."""
        from django.db import connection

        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("VACUUM INTO %s", [str(self.made)])
            return
        source = connection.settings_dict["NAME"]
        connection.close()
        connection.close_pool()
        with connection.creation._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}"')
            cursor.execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE "{source}"')
        self.made.touch()


@pytest.fixture(scope="session")
def template(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[Template | None]:
    """Yield the template where there are several workers; locked, if this is the worker that makes it."""
    from django.db import connection

    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield None
        return
    found = Template(Path(os.environ["WHETSTONE_TEST_VAR"]))
    found.lock.acquire(timeout=120)
    if found.made.exists():
        if connection.vendor == "sqlite":
            shutil.copyfile(found.made, connection.settings_dict["TEST"]["NAME"])
        else:
            connection.settings_dict["TEST"]["TEMPLATE"] = TEMPLATE
        found.lock.release()
    yield found


@pytest.fixture(scope="session")
def django_db_keepdb(template: Template | None) -> bool:
    """Keep SQLite's file if it was copied. PostgreSQL copies by itself."""
    from django.db import connection

    return connection.vendor == "sqlite" and template is not None and not template.lock.is_locked


@pytest.fixture(scope="session")
def django_db_setup(template: Template | None, django_db_setup: Any, django_db_blocker: Any) -> None:
    if template is None or not template.lock.is_locked:
        return
    try:
        with django_db_blocker.unblock():
            template.keep()
    finally:
        template.lock.release()
