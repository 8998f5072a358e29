"""A policy that an endpoint writes as, and the server behind it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.local_server import serving
from tests.training.using import openai_server
from tests.training.using.slow_writer import slow_model, slow_trial  # noqa: F401 - fixtures

KEY = "sk-very-secret"


@pytest.fixture
def server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[openai_server.Server]:
    with serving(openai_server.Server()) as server:
        settings.ENDPOINTS = [f"{server.host}=ACME_KEY"]
        monkeypatch.setenv("ACME_KEY", KEY)
        yield server


@pytest.fixture
def make_endpoint(project: Any, owner: Any, server: openai_server.Server) -> Callable[..., Any]:
    """make_endpoint("acme"): a policy of the server."""
    from training.usage.bringing import bring_endpoint

    def make(name: str = "acme", **sampling: Any) -> Any:
        url = f"http://{server.host}/v1/"
        return bring_endpoint(project, owner, name, url=url, model="acme-1", sampling=sampling)

    return make


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any]]]:
    """Return the messages that the broker took, which no worker reads."""
    from celery import current_app

    taken: list[tuple[str, list[Any]]] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **_options: taken.append((name, args)))
    return taken
