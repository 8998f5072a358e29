"""The counts of pairs, which the database finds: those of the pairs that are made."""

from typing import Any

import pytest

from annotate.models import Comparison, Judgment, Project, Prompt
from annotate.pairs import counts
from annotate.pairs.aggregation import aggregate
from annotate.pairs.counts import count_pairs
from annotate.pairs.settings import PairSettings
from tests.annotate.exports.varied import make_varied_project
from tests.factories import compare, say

pytestmark = pytest.mark.django_db

SETTINGS = (
    PairSettings(),
    PairSettings(votes="equal"),
    PairSettings(votes="equal", ties="half", both_bad="ratings", min_judgments=2, smoothing=0.5),
    PairSettings(votes="reliability", include_too_fast=False, include_gold=True),
    PairSettings(include_untrainable=True, policies=(1, 2, 1_000_001)),
)


@pytest.fixture
def varied() -> Project:
    return make_varied_project()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("few", [0, counts.FEW])
def test_the_counts_are_those_of_the_pairs(
    varied: Project, settings: PairSettings, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "FEW", few)
    policy = varied.policies.order_by("pk").first()
    same = compare(varied, "The same", "twice", "twice", policies=(policy, policy))
    for member in varied.memberships.order_by("pk")[:2]:
        say(member.user, same, "first")
    assert count_pairs(varied, settings) == aggregate(varied, settings).counts


def test_a_project_without_judgments_has_no_pairs(project: Project) -> None:
    assert count_pairs(project) == aggregate(project).counts


def test_each_change_counts_at_once(varied: Project, owner: Any) -> None:
    """Nothing is kept that an admin or an annotator changes: gold, withdrawn ones, held-out prompts, an undo."""
    changes = (
        lambda: Prompt.objects.update(held_out=True),
        lambda: Comparison.objects.filter(kind="standard").update(withdrawn_at="2026-01-01T00:00Z"),
        lambda: Judgment.objects.order_by("pk").first().delete(),
    )
    seen = [count_pairs(varied)]
    for change in changes:
        change()
        seen.append(count_pairs(varied))
        assert seen[-1] == aggregate(varied).counts
        assert seen[-1] != seen[-2]
