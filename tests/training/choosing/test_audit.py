"""The audit of choosing: what a chosen judgment is worth, shown while judging goes on."""

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from annotate.models import Project
from primitives.evidence import ratio_interval, refutes
from primitives.statistics import Estimate
from tests import factories
from training.standings.audit import Audit, Observation, estimate_worth, measure_audit, pair_up

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Shares of ties, slightly better, better and much better: of simulated annotators on samples of the starter, drawn at
# random, and best against worst of 8 by a probe whose scores correlate with the reward at 0.65 (docs/learning.md).
RANDOM, BEST = (0.10, 0.31, 0.32, 0.27), (0.02, 0.10, 0.29, 0.59)


def draw_blocks(generator: random.Random, chosen: tuple[float, ...], count: int) -> list[tuple[float, float]]:
    def signal(shares: tuple[float, ...]) -> float:
        return generator.choices((0.0, 1 / 3, 2 / 3, 1.0), shares)[0]

    return [(math.fsum(signal(chosen) for _ in range(3)) / 3, signal(RANDOM)) for _ in range(count)]


# --- The ratio of two means --------------------------------------------------------------------------------------


def test_the_ratio_of_equal_means_is_seldom_refuted() -> None:
    """150 paths of 100 blocks, each looked at all the time: at most 2.5 % leave the truth on each side."""
    generator = random.Random(3)
    paths = [draw_blocks(generator, RANDOM, 100) for _ in range(150)]
    above = sum(refutes([one - other for one, other in path], 0.025) for path in paths)
    below = sum(refutes([other - one for one, other in path], 0.025) for path in paths)
    assert max(above, below) <= 7  # two standard errors above 3.75


def test_the_interval_of_a_ratio_holds_what_was_not_refuted() -> None:
    blocks = draw_blocks(random.Random(5), BEST, 120)
    found = ratio_interval(blocks, 0.025, 0.025)
    assert found is not None
    assert 1.05 < found.low < found.value < found.high < 2
    assert refutes([one - (found.low - 0.002) * other for one, other in blocks], 0.025)
    assert not refutes([one - (found.low + 0.01) * other for one, other in blocks], 0.025)


def test_a_ratio_has_no_end_before_there_is_evidence() -> None:
    found = ratio_interval([(1.0, 1.0), (0.5, 0.5)], 0.025, 0.025)
    assert found is not None
    assert found.value == 1.0
    assert math.isinf(found.high)
    assert ratio_interval([(1.0, 0.0)], 0.025, 0.025) is None


# --- Worth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chosen", "low", "high"), [(BEST, 1.6, 2.3), (RANDOM, 0.8, 1.2)])
def test_worth_is_that_of_the_experiments(chosen: tuple[float, ...], low: float, high: float) -> None:
    worth = estimate_worth(draw_blocks(random.Random(11), chosen, 400))
    assert worth is not None
    assert low < worth.value < high


def test_choosing_stops_where_it_does_not_pay() -> None:
    def audit(value: float, low: float, high: float, count: int, tells_strength: bool = True) -> Audit:
        return Audit(9, 3, Estimate(value, low, high, count), tells_strength)

    assert not Audit().is_refuted
    assert not audit(1.0, 0.5, 2.0, 59).is_refuted  # too little is known
    assert audit(1.0, 0.5, 2.0, 60).is_refuted
    assert audit(0.9, 0.7, 1.05, 20).is_refuted
    assert not audit(1.0, 0.5, 2.0, 600, tells_strength=False).is_refuted
    assert not audit(1.3, 1.1, 2.0, 60).is_refuted
    assert audit(1.3, 1.1, 2.0, 60).is_proven


def test_blocks_are_made_within_a_round_as_judging_ends() -> None:
    def observe(batch: str, arm: str, *signals: float) -> list[Observation]:
        return [
            Observation(batch, arm, signal, NOON + timedelta(minutes=minute))
            for minute, signal in enumerate(signals)
        ]

    sizes = {
        ("round 1", "probe"): 4,
        ("round 1", "control"): 2,
        ("round 2", "probe"): 1,
        ("round 2", "control"): 1,
    }
    first = observe("round 1", "probe", 1.0, 0.5, 0.25) + observe("round 1", "control", 0.5, 0.0)
    second = observe("round 2", "control", 0.25)
    assert pair_up(first + second, sizes) == [(0.75, 0.5)]
    assert pair_up(first + second + observe("round 2", "probe", 1.0), sizes) == [(1.0, 0.25), (0.75, 0.5)]


@pytest.mark.django_db
def test_ties_and_strengths_make_the_signal(project: Project, teammate: Any) -> None:
    assert measure_audit(project) == Audit()
    chosen = {"arm": "probe", "propensity": 0.8, "batch": "round 1"}
    control = {"arm": "control", "propensity": 0.2, "batch": "round 1"}
    wide = factories.compare(project, "One opens:", " It sings.", " It sags.", **chosen)
    tied = factories.compare(project, "Two opens:", " It sings.", " It sags.", **control)
    plain = factories.compare(project, "Three opens:", " It sings.", " It sags.", **control)
    factories.compare(project, "Four opens:", " It sings.", " It sags.", **chosen)
    at_random = factories.compare(project, "Five opens:", " It sings.", " It sags.", batch="round 1")
    factories.say(teammate, wide, "first", 3)
    factories.say(teammate, tied, "tie")
    factories.say(teammate, plain, "second", 1)
    factories.say(teammate, at_random, "second", 3)
    audit = measure_audit(project)
    assert (audit.chosen, audit.control, audit.tells_strength) == (1, 2, True)
    assert audit.worth is None  # the only block whose both arms are judged has no signal at random
