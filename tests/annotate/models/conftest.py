"""A comparison that was judged, beside one that was not."""

from typing import Any

import pytest

from annotate.models import Judgment, Project
from tests.factories import judge


@pytest.fixture
def judged(project: Project, teammate: Any, make_comparisons: Any) -> Judgment:
    make_comparisons(2)
    return judge(project, teammate, "left")
