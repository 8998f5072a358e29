"""The API keeps to its schema: schemathesis sends what it allows and what it does not, as three kinds of people."""

import logging
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.conf import settings
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.security import site as sites

PEOPLE = ("our admin", "our annotator", "outsider")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BRIEF = hypothesis_settings(
    max_examples=2,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def site(db: None) -> Iterator[sites.Site]:
    """Return a project with one of everything, in quiet: thousands of refusals would be logged."""
    logging.disable(logging.WARNING)
    ends = (signals.request_started, signals.request_finished)
    for signal in ends:  # of a request, and not of the test's transaction
        signal.disconnect(close_old_connections)
    yield sites.build()
    for signal in ends:
        signal.connect(close_old_connections)
    logging.disable(logging.NOTSET)
    shutil.rmtree(settings.RUNS, ignore_errors=True)


def load() -> Any:
    return schemathesis.openapi.from_wsgi("/api/v1/schema/?format=json", get_wsgi_application())


def try_operations(site: sites.Site, person: str, budget: Any) -> int:
    """Send requests to each operation. Nothing of one is there for the next."""
    tried = 0
    headers = {"Authorization": f"Bearer {site.tokens[person]}", "Accept-Encoding": "identity"}
    for found in load().get_all_operations():
        operation = found.ok()
        known = {one.name: site.ours.values[one.name] for one in operation.path_parameters}
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        cases = st.one_of(
            operation.as_strategy(modes[0], path_parameters=known), operation.as_strategy(modes[1])
        )

        @given(case=cases)
        @budget
        def send(case: Any) -> None:
            nonlocal tried
            tried += 1
            with transaction.atomic():
                case.call_and_validate(headers=headers, checks=CHECKS)
                transaction.set_rollback(True)

        send()
    return tried


@pytest.mark.parametrize("person", PEOPLE)
def test_no_answer_is_other_than_described(site: sites.Site, person: str) -> None:
    assert try_operations(site, person, BRIEF) > 100
