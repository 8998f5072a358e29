"""A project whose rows leave: plain prompts, chats, a tie, both bad, a skip."""

from typing import Any

import pytest

from annotate.exports.selection import Selection
from annotate.forms.exports import read_selection
from annotate.models import Comparison, Project
from tests.factories import compare, say

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@pytest.fixture
def plain(project: Project, three: list[Any]) -> list[Comparison]:
    """Return four comparisons of plain prompts: a preference with two votes, a tie, both bad, and a skip."""
    policies = tuple(project.policies.create(name=name, kind="external") for name in ("one", "two"))
    made = [
        compare(project, f"Prompt {number}", f"good {number}", f"bad {number}, and long", policies=policies)
        for number in range(4)
    ]
    for comparison, what in zip(made, ("first", "tie", "both_bad", "skip"), strict=True):
        say(three[0], comparison, what)
    say(three[1], made[0], "first", 1, left="second")
    Comparison.objects.filter(pk=made[0].pk).update(external_id="c0", metadata={"lang": "de"})
    return made


@pytest.fixture
def chat(project: Project, three: list[Any]) -> Comparison:
    """Return a judged comparison of a chat."""
    made = compare(project, CHAT, "Hi!", "Good day to you.")
    say(three[0], made, "second", 3)
    return made


@pytest.fixture
def select(project: Project) -> Any:
    """select(format="kto", ties="include"): what the page's form makes of these choices."""

    def select(**query: Any) -> Selection:
        return read_selection(project, query)

    return select
