"""One database, migrated once for all the workers of a test run, who copy it. SQLite's serves later runs too.

Migrating costs seven seconds of processor time, and more with each migration.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from filelock import FileLock

TEMPLATE = "whetstone_template"
ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".pytest_cache" / "databases"  # between runs


class Template:
    """The copy that is shared, below a folder. `lock` is held by the process that makes it."""

    def __init__(self, folder: Path, name: str = TEMPLATE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.made = folder / name
        self.lock = FileLock(folder / f"{TEMPLATE}.lock")

    def keep(self) -> None:
        """Copy this process's database, just migrated."""
        from django.db import connection

        if connection.vendor == "sqlite":
            for earlier in self.made.parent.glob("*.sqlite3"):
                earlier.unlink()
            part = self.made.with_suffix(".part")
            part.unlink(missing_ok=True)
            with connection.cursor() as cursor:
                cursor.execute("VACUUM INTO %s", [str(part)])
            part.replace(self.made)
            return
        source = connection.settings_dict["NAME"]
        connection.close()
        connection.close_pool()
        with connection.creation._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}"')
            cursor.execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE "{source}"')
        self.made.touch()


def find_template() -> Template | None:
    """Return the template of this run. PostgreSQL's serves several workers, as its server ends with the run."""
    from django.db import connection

    if connection.vendor == "sqlite":
        return Template(KEPT, f"{migrations_digest()}.sqlite3")
    if "PYTEST_XDIST_WORKER" in os.environ:
        return Template(Path(os.environ["WHETSTONE_TEST_VAR"]))
    return None


def migrations_digest() -> str:
    """Return a digest of all that decides what a migrated database is: migrations, and the triggers that they make."""
    files = [
        path for folder in ("annotate", "training") for path in (ROOT / folder / "migrations").glob("*.py")
    ]
    digest = hashlib.sha256(django.__version__.encode())
    for path in [*sorted(files), ROOT / "annotate/models/triggers.py"]:
        digest.update(f"\0{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:20]


@pytest.fixture(scope="session")
def template(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[Template | None]:
    """Yield the template; locked, if this is the process that makes it."""
    from django.db import connection

    found = find_template()
    if found is None:
        yield None
        return
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
