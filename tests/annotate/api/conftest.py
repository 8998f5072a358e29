"""Clients of the API."""

import pytest

from annotate.models import ApiToken
from tests.annotate.api.caller import Caller
from tests.factories import judge_all


@pytest.fixture
def caller():
    return lambda user: Caller(ApiToken.issue(user, "a test")[1])


@pytest.fixture
def judged(project, teammate, make_comparisons):
    make_comparisons(2)
    judge_all(project, teammate, default="left")
