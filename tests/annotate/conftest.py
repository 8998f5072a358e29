"""Fixtures of the tests of judging."""

from typing import Any

import pytest


@pytest.fixture
def three(make_member: Any) -> list[Any]:
    return [make_member(name, "annotator") for name in ("anna", "bela", "cleo")]


@pytest.fixture
def claim(project: Any, teammate: Any, make_comparisons: Any) -> Any:
    """Return the teammate's live claim: one of eight comparisons."""
    from annotate.queueing import queue

    make_comparisons(8)
    found = queue.claim(project, teammate)
    assert found is not None
    return found
