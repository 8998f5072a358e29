"""The API keeps to its schema: schemathesis sends what it allows and what it does not, as three kinds of people."""

import gc
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

pytestmark = [
    pytest.mark.once,  # what is stored is tested elsewhere, on both databases
    # schemathesis closes no answer, so the file in one is closed with a warning
    pytest.mark.filterwarnings(
        "ignore:.*FileIO.*(an-export|merged-weights):pytest.PytestUnraisableExceptionWarning"
    ),
]
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
    gc.collect()  # closes those files now, and not in another test


def load() -> Any:
    return schemathesis.openapi.from_wsgi("/api/v1/schema/?format=json", get_wsgi_application())


def headers_of(site: sites.Site, person: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.tokens[person]}", "Accept-Encoding": "identity"}


def try_operations(site: sites.Site, budget: Any) -> int:
    """Send each operation what its schema allows and what it does not, as each person. Nothing stays."""
    tried = 0
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for found in load().get_all_operations():
        operation = found.ok()
        known = {one.name: site.ours.values[one.name] for one in operation.path_parameters}
        cases = st.one_of(
            operation.as_strategy(modes[0], path_parameters=known), operation.as_strategy(modes[1])
        )

        @given(case=cases)
        @budget
        def send(case: Any) -> None:
            nonlocal tried
            for person in PEOPLE:
                tried += 1
                with transaction.atomic():
                    case.call_and_validate(headers=headers_of(site, person), checks=CHECKS)
                    transaction.set_rollback(True)

        send()
    return tried


def test_no_answer_is_other_than_described(site: sites.Site) -> None:
    assert try_operations(site, BRIEF) > 300


def try_sequences(site: sites.Site, person: str, budget: Any) -> int:
    """Follow the schema's links from answer to request. Each sequence begins with the same site."""
    headers, steps = headers_of(site, person), 0

    class Sequence(load().as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            self.transaction = transaction.atomic()
            self.transaction.__enter__()

        def teardown(self) -> None:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

        def before_call(self, case: Any) -> None:
            case.path_parameters["slug"] = "ours"

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": headers}

        def validate_response(self, response: Any, case: Any, **options: Any) -> None:
            nonlocal steps
            steps += 1
            case.validate_response(response, checks=CHECKS, headers=headers)

    Sequence.run(settings=budget)
    return steps


def test_no_sequence_of_requests_ends_in_an_error(site: sites.Site) -> None:
    budget = hypothesis_settings(BRIEF, max_examples=5, stateful_step_count=6)
    assert try_sequences(site, "our admin", budget) > 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_longer_search_finds_more(site: sites.Site) -> None:
    longer = hypothesis_settings(BRIEF, max_examples=40, derandomize=False, stateful_step_count=10)
    assert try_operations(site, longer) > 3_000
    for person in PEOPLE:
        try_sequences(site, person, longer)
