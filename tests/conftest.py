"""The small fixed cast of the tests, on whatever database DATABASE_URL names (SQLite by default)."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import TestCase

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as search

from tests.databases import django_db_keepdb, django_db_setup, template  # noqa: F401 - fixtures
from tests.migrations import newest  # noqa: F401 - a fixture

# A shell starts background jobs with SIGINT ignored, which every process that a test interrupts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A search is as slow as the machine is busy, which is no fault.
search.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
search.load_profile("tests")

gc.disable()  # neither the modules of the application nor thousands of collected tests are garbage


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage from here on, in the process that hands the tests out too."""
    gc.freeze()
    gc.enable()


def area(item: pytest.Item) -> int:
    """Return the place of a test's folder in the order of the run."""
    folder = item.nodeid.split("/")[1]
    return {"browser": 0, "engine": 2}.get(folder, 1)


@pytest.hookimpl(trylast=True)  # once they are shuffled
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests that have a time of their own, as the last ones would keep one worker busy at the end.

    Keep the tests of browsers together, and those of the engine: each worker is given neighbours, and need not start
    what its neighbours started, a Chromium or PyTorch. On another database, leave out what was tested already and does
    not ask it anything of its own.
    """
    items.sort(key=lambda item: (item.get_closest_marker("timeout") is None, area(item)))
    if "DATABASE_URL" not in os.environ:
        return
    config.hook.pytest_deselected(items=[item for item in items if not asks_database(item)])
    items[:] = [item for item in items if asks_database(item)]


def asks_database(item: pytest.Item) -> bool:
    """Return whether a test uses a database, and one may answer it differently than another."""
    if item.get_closest_marker("once") is not None:
        return False
    is_case = issubclass(getattr(item, "cls", None) or object, TestCase)
    uses = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return is_case or bool(uses) or item.get_closest_marker("django_db") is not None


FLUSHED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Put the trail's trigger back once the tables are emptied: any test may follow, in whatever order."""
    yield
    if nextitem is None or not item.stash.get(FLUSHED, False):
        return
    from django.db import connection
    from pytest_django.plugin import blocking_manager_key

    from annotate.models import triggers

    with item.config.stash[blocking_manager_key].unblock(), connection.schema_editor() as editor:
        triggers.install(None, editor)


@pytest.fixture(autouse=True)
def _flushable_trail(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test with real transactions end: on SQLite it empties every table, the append-only trail too."""
    marker = request.node.get_closest_marker("django_db")
    transactional = {"transactional_db", "live_server"} & set(request.fixturenames)
    if not transactional and not (marker and marker.kwargs.get("transaction")):
        yield
        return
    request.getfixturevalue("_django_db_helper")  # whose end is the flush, after this one's

    from django.db import connection

    from annotate.models import triggers

    with connection.schema_editor() as editor:
        triggers.install(None, editor)
    yield
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER IF EXISTS keep_trail_on_delete")
        request.node.stash[FLUSHED] = True


@pytest.fixture
def use_storage(settings: Any, tmp_path: Path) -> Callable[..., Path]:
    """use_storage(FullStorage): keep files by this class, below the folder that it returns."""

    from django.core.files.storage import FileSystemStorage

    def use(storage: type[FileSystemStorage] = FileSystemStorage) -> Path:
        name = f"{storage.__module__}.{storage.__qualname__}"
        chosen = {"BACKEND": name, "OPTIONS": {"location": str(tmp_path)}}
        settings.STORAGES = settings.STORAGES | {"default": chosen}
        return tmp_path

    return use


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    from annotate.models import User

    def make(username: str) -> User:
        return User.objects.create_user(username, password="password")

    return make


@pytest.fixture
def project(db: None) -> Any:
    from annotate.models import Policy, Project

    project = Project.objects.create(slug="reviews", name="Film reviews", gold_rate=0.0, held_out_share=0.0)
    project.current_policy = Policy.objects.create(
        project=project, name="starter", kind=Policy.Kind.BASE, base_model="starter"
    )
    project.save()
    return project


@pytest.fixture
def make_member(project: Any, make_user: Callable[..., Any]) -> Callable[..., Any]:
    from annotate.models import Membership

    def make(username: str, role: str, in_project: Any = None) -> Any:
        user = make_user(username)
        Membership.objects.create(project=in_project or project, user=user, role=role)
        return user

    return make


@pytest.fixture
def owner(make_member: Callable[..., Any]) -> Any:
    """Return the project's admin."""
    return make_member("olive", "admin")


@pytest.fixture
def teammate(make_member: Callable[..., Any]) -> Any:
    """Return an annotator of the project."""
    return make_member("toni", "annotator")


@pytest.fixture
def researcher(make_member: Callable[..., Any]) -> Any:
    return make_member("rosa", "researcher")


@pytest.fixture
def outsider(make_user: Callable[..., Any]) -> Any:
    """Return a user with an account and no membership."""
    return make_user("otto")


@pytest.fixture
def client_for() -> Callable[..., Any]:
    from django.test import Client

    def client_for(user: Any = None, **kwargs: Any) -> Client:
        client = Client(**kwargs)
        if user is not None:
            client.force_login(user)
        return client

    return client_for


@pytest.fixture
def make_comparisons(project: Any) -> Callable[..., list[Any]]:
    """make_comparisons(5, kind="gold", needed=2): comparisons of two short completions each."""
    from tests import factories

    made = 0

    def make(count: int = 1, *, in_project: Any = None, policy: Any = None, **fields: Any) -> list[Any]:
        nonlocal made
        numbers = range(made + 1, made + count + 1)
        made += count
        rows = [
            (f"Review number {number} begins", f" splendidly {number}.", f" dreadfully {number}.")
            for number in numbers
        ]
        writers = (policy, policy) if policy else None
        return factories.compare_many(in_project or project, rows, policies=writers, **fields)

    return make


@pytest.fixture
def commits_first() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Let an act of another connection commit while the test's own waits for it: `commits_first(act)`."""
    from tests.meetings import FirstToCommit

    with ThreadPoolExecutor(1) as pool:
        made: list[FirstToCommit] = []

        def begin(act: Callable[[], Any]) -> FirstToCommit:
            made.append(FirstToCommit(pool, act))
            return made[-1]

        yield begin
        for one in made:
            one.result()
