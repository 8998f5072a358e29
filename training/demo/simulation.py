"""Simulated annotators: they claim, judge and decide as people do, and choose by the ground-truth reward.

Between two completions whose rewards differ by d, an annotator prefers the better one with the Bradley-Terry
probability sigmoid(sharpness * d). Two with the same reward are a tie. The reward is known to them alone: training
sees the verdicts alone.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from annotate.judgments import judging
from annotate.judgments.judging import Verdict
from annotate.models import Comparison, Completion, Judgment, Project, User
from annotate.queueing import queue
from training.engine.starter import reviews
from training.models import Round
from training.rounds import deciding
from training.standings.gates import Gate, measure_gate


@dataclass(frozen=True)
class Taste:
    """The reward that annotators choose by, and how well they see it.

    `clearly` and `much` are the differences in reward from which a preference is "better" and "much better".
    """

    reward: Callable[[str], float]
    sharpness: float
    clearly: float
    much: float


# A difference of 1 is seen rightly 98 times in 100, one of 0.25 73 times.
FILMS = Taste(reviews.reward, sharpness=4.0, clearly=0.4, much=1.0)


class NothingLeftError(Exception):
    """An empty queue: no annotator is handed anything any more."""


@dataclass
class SimulatedAnnotator:
    """A simulated annotator. `rng` makes its noise repeatable.

    With a `clock` it judges at that time, and reading takes some seconds. Without one it judges now and at once.
    """

    user: User
    rng: random.Random
    taste: Taste = FILMS
    clock: datetime | None = None
    counts: Counter[str] = field(default_factory=Counter)  # verdicts by the comparison's kind

    def judge_next(self, project: Project) -> bool:
        """Claim a comparison, judge it, record the verdict. Return False if nothing was handed out."""
        claim = queue.claim(project, self.user, now=self.clock)
        if claim is None:
            return False
        comparison = Comparison.objects.select_related("first", "second").get(pk=claim.comparison_id)
        verdict = self.choose(comparison.first, comparison.second)
        seconds = None
        if self.clock:
            seconds = self.rng.uniform(3, 12)
            self.clock += timedelta(seconds=seconds)
        judging.record(project, self.user, claim.token, verdict, seconds=seconds, now=self.clock)
        self.counts[comparison.kind] += 1
        return True

    def choose(self, first: Completion, second: Completion) -> Verdict:
        """Return the verdict on two completions, in whichever order they come."""
        difference = self.taste.reward(first.text) - self.taste.reward(second.text)
        if difference == 0:
            return Verdict(Judgment.Verdict.TIE)
        right = self.rng.random() < 1 / (1 + math.exp(-self.taste.sharpness * abs(difference)))
        preferred = first if (difference > 0) == right else second
        size = abs(difference)
        levels = Judgment.Strength
        strength = levels.SLIGHTLY
        if size >= self.taste.clearly:
            strength = levels.MUCH if size >= self.taste.much else levels.BETTER
        return Verdict(Judgment.Verdict.PREFER, preferred_id=preferred.pk, strength=int(strength))


def take_turns(
    project: Project, annotators: Sequence[SimulatedAnnotator], enough: Callable[[], bool]
) -> None:
    """Let the annotators judge in turn until `enough()`. Raises NothingLeftError if all of them run out before."""
    empty_handed = 0
    for annotator in itertools.cycle(annotators):
        if enough():
            return
        empty_handed = 0 if annotator.judge_next(project) else empty_handed + 1
        if empty_handed == len(annotators):
            raise NothingLeftError


def judge(project: Project, annotators: Sequence[SimulatedAnnotator], count: int) -> None:
    """Give `count` verdicts on comparisons that train, after whatever the queue puts before them."""

    def so_far() -> int:
        return sum(annotator.counts[Comparison.Kind.STANDARD] for annotator in annotators)

    goal = so_far() + count
    take_turns(project, annotators, lambda: so_far() >= goal)


def decide(round_: Round, annotators: Sequence[SimulatedAnnotator], by: User) -> Gate:
    """Judge the round's gate until it is settled, and promote its policy unless it is worse. Return the gate.

    A gate that does not decide would end most loops, which measure learning. An admin would judge more.
    """
    take_turns(round_.project, annotators, lambda: measure_gate(round_).is_settled)
    gate = measure_gate(round_)
    (deciding.reject if gate.verdict == "worse" else deciding.promote)(round_, by)
    return gate
