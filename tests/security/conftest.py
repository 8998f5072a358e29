"""The attack suite: `make test-security`. Each test counts what it tried and what was refused."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import browser, open_context  # noqa: F401 - fixtures
from tests.security import site as sites

TALLY: Counter[str] = Counter()


class Tally:
    """Counts attacks of a kind. `refuse` asserts that one was refused, and says which was not."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def refuse(self, refused: bool, what: object) -> None:
        TALLY[f"{self.kind}|tried"] += 1
        TALLY[f"{self.kind}|refused"] += bool(refused)
        assert refused, what


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of refusals with their tracebacks would take longer to log than to make."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Return the counts of the kind that the module's `KIND` names."""
    return Tally(request.module.KIND)


@pytest.fixture
def site(db: None) -> Iterator[sites.Site]:
    from django.conf import settings

    yield sites.build()
    shutil.rmtree(settings.RUNS, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: Any = getattr(session.config, "workeroutput", None)
    if output is not None:  # a worker of pytest-xdist hands its counts to the main process
        output["tally"] = dict(TALLY)


def pytest_testnodedown(node: Any, error: object) -> None:
    TALLY.update(getattr(node, "workeroutput", {}).get("tally", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    kinds = sorted({key.split("|")[0] for key in TALLY})
    if not kinds or "PYTEST_XDIST_WORKER" in os.environ:
        return
    terminalreporter.section("attacks")
    for kind in kinds:
        tried, refused = TALLY[f"{kind}|tried"], TALLY[f"{kind}|refused"]
        terminalreporter.line(f"{kind:<60} {tried:>7,} tried {refused:>7,} refused")
    tried = sum(count for key, count in TALLY.items() if key.endswith("|tried"))
    refused = sum(count for key, count in TALLY.items() if key.endswith("|refused"))
    terminalreporter.line(f"{'all':<60} {tried:>7,} tried {refused:>7,} refused")
