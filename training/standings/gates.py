"""The gate of a round: blind comparisons of its policy with the one before, and what they show at any moment.

The unit of evidence is the prompt: its observation is the mean over its comparisons of wins (1), losses (-1) and ties
(0), of which several annotators' mean counts once. So annotators who agree on a lucky sample, or many samples of one
prompt, do not look like many. A prompt counts once all its comparisons are judged, in that order. The annotators are
taken as they are: the question is which policy this team prefers on prompts like these.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from django.db.models import Avg, Case, F, FloatField, Max, Q, QuerySet, Value, When
from django.utils import timezone

from annotate.models import Comparison, Judgment, Project
from primitives import evidence
from primitives.evidence import Design
from primitives.statistics import Estimate
from training.models import Round
from training.standings.levels import UNPLANNED_LEVEL, WORSE_LEVEL, level_of

MOST_UNITS, MOST_EACH = 800, 50  # that a forecast counts: more of either takes longer, and says hardly more
SHARES = (0.6, 0.65, 0.7)  # of wins among what is no tie, for which a form tells the chance to decide
USUAL_TIES = 0.25
HARDLY = 0.05  # a chance that is not worth a gate


@dataclass(frozen=True)
class Gate:
    """The standing of a gate: `judged` of `total` comparisons, and the observations of its `prompts` so far.

    `level` is the chance, over all moments, to call a policy better that is not. `pending` prompts are still to come.
    """

    total: int
    judged: int
    wins: int
    draws: int
    losses: int
    prompts: tuple[float, ...] = ()
    pending: int = 0
    level: float = UNPLANNED_LEVEL

    @cached_property
    def win_rate(self) -> Estimate | None:
        """Return the share of prompts' comparisons that the new policy wins, a tie being half of one."""
        found = evidence.interval(self.prompts, self.level, WORSE_LEVEL)
        if found is None:
            return None
        return Estimate((1 + found.value) / 2, (1 + found.low) / 2, (1 + found.high) / 2, found.count)

    @property
    def share_so_far(self) -> float | None:
        """Return the share of judged comparisons that the new policy wins, ties half: a figure, and no evidence."""
        return (self.wins + self.draws / 2) / self.judged if self.judged else None

    @property
    def verdict(self) -> str:
        """Return `better` or `worse` once the interval has left one half, `even` if it never did, else `open`."""
        if self.win_rate is not None and self.win_rate.low > 0.5:
            return "better"
        if self.win_rate is not None and self.win_rate.high < 0.5:
            return "worse"
        return "even" if self.judged == self.total else "open"

    @property
    def leans(self) -> str:
        """Return which policy has won more so far: `new`, `before`, or neither."""
        total = math.fsum(self.prompts)
        return "new" if total > 0 else "before" if total < 0 else ""

    @property
    def more_needed(self) -> int | None:
        """Return about how many more prompts like these would decide, in the direction that it leans to.

        Two digits of it mean something.
        """
        if self.leans == "before":
            more = evidence.more_needed([-one for one in self.prompts], WORSE_LEVEL)
        else:
            more = evidence.more_needed(self.prompts, self.level)
        return more and round(more, 2 - len(str(more)))

    @property
    def is_settled(self) -> bool:
        """Return whether judging on would change nothing: it is decided, or has hardly a chance to be."""
        if self.verdict != "open":
            return True
        return evidence.is_hopeless(self.prompts, self.pending, self.level)


def measure_gate(round_: Round) -> Gate:
    """Return the standing of a round's gate, which holds however often it is looked at."""
    return measure_gates([round_])[round_.pk]


def measure_gates(rounds: Iterable[Round]) -> dict[int, Gate]:
    """Map each round's id to the standing of its gate, in three queries however many rounds there are."""
    levels = {round_.pk: round_.gate_level for round_ in rounds}
    totals = Round.objects.filter(pk__in=levels).gate_totals()
    judged, pending = _judged(levels), _pending(levels)
    gates = {}
    for pk, level in levels.items():
        shares = [share for _prompt, share, _at in judged[pk]]
        gates[pk] = Gate(
            total=totals[pk],
            judged=len(shares),
            wins=sum(share > 0 for share in shares),
            draws=sum(share == 0 for share in shares),
            losses=sum(share < 0 for share in shares),
            prompts=_observations(judged[pk], pending[pk]),
            pending=len(pending[pk]),
            level=UNPLANNED_LEVEL if level is None else level,
        )
    return gates


# A comparison's prompt, what it gives to the new policy (-1 to 1), and when.
Judged = tuple[int, float, object]


def _judged(rounds: Iterable[int]) -> Mapping[int, list[Judged]]:
    """Return the comparisons of each gate that are judged in full, in the order in which they were."""
    found: dict[int, list[Judged]] = defaultdict(list)
    rows = (
        opinions()
        .filter(comparison__gate_of_rounds__in=rounds, comparison__judged__gte=F("comparison__needed"))
        .values("comparison__gate_of_rounds", "comparison")
        .annotate(
            share=Avg(share_for(Q(preferred__policy=F("comparison__gate_of_rounds__result_policy")))),
            at=Max("created_at"),
        )
        .order_by("at", "comparison")
        .values_list("comparison__gate_of_rounds", "comparison__prompt", "share", "at")
    )
    for round_id, prompt, share, at in rows:
        found[round_id].append((prompt, 2 * share - 1, at))
    return found


def _pending(rounds: Iterable[int]) -> Mapping[int, set[int]]:
    """Return the prompts of each gate that have a comparison still to be judged."""
    found: dict[int, set[int]] = defaultdict(set)
    rows = (
        Comparison.objects.filter(gate_of_rounds__in=rounds, judged__lt=F("needed"))
        .filter(Q(open=True) | Q(claimed__gt=0))
        .values_list("gate_of_rounds", "prompt")
    )
    for round_id, prompt in rows:
        found[round_id].add(prompt)
    return found


def _observations(judged: Iterable[Judged], pending: set[int]) -> tuple[float, ...]:
    """Return the mean of each prompt that is judged in full, in the order in which the last of each was judged."""
    by_prompt: dict[int, list[float]] = {}
    for prompt, share, _at in judged:
        # Put at the end again: a dictionary keeps the order in which keys come.
        by_prompt[prompt] = [*by_prompt.pop(prompt, []), share]
    return tuple(
        math.fsum(shares) / len(shares) for prompt, shares in by_prompt.items() if prompt not in pending
    )


def opinions() -> QuerySet[Judgment]:
    """Return the judgments that compare: current ones, without skips."""
    return Judgment.objects.current().opinions()


def share_for(preferred: Q) -> Case:
    """Return what a judgment gives to a policy: 1 if it preferred its completion, one half if neither, else 0."""
    neither = Q(verdict__in=[Judgment.Verdict.TIE, Judgment.Verdict.BOTH_BAD])
    return Case(
        When(neither, then=Value(0.5)),
        When(preferred, then=Value(1.0)),
        default=Value(0.0),
        output_field=FloatField(),
    )


# --- Its plan, and its end ---------------------------------------------------------------------------------------


def next_level(project: Project) -> float:
    """Return the level of the project's next gate."""
    before = project.rounds.filter(result_policy__isnull=False).order_by("-number")
    last = before.first()
    if last is None:
        return level_of(1)
    gate = measure_gate(last)
    return level_of(before.count() + 1, gate.level if gate.verdict == "better" else 0.0)


@dataclass(frozen=True)
class Forecast:
    """The prospects of the project's next gate: `prompts` are held out, and `chances` by share of wins."""

    prompts: int
    chances: tuple[tuple[float, float], ...]

    @property
    def best_share(self) -> float:
        return max(SHARES)

    @property
    def is_hopeless(self) -> bool:
        """Return whether even a far better policy would hardly ever be called better."""
        return all(chance < HARDLY for _share, chance in self.chances)


def forecast(project: Project, comparisons: int) -> Forecast:
    """Return the chances that a gate of at most so many comparisons calls the policy better, for each of SHARES."""
    prompts = project.prompts.for_rounds().filter(held_out=True).count()
    units = min(prompts, comparisons, MOST_UNITS)
    if not units:
        return Forecast(prompts, ())
    each = min(max(1, comparisons // min(prompts, comparisons)), MOST_EACH)
    design = Design(units, each, USUAL_TIES, next_level(project))
    found = tuple((share, evidence.chance_to_refute(design, share)) for share in SHARES)
    return Forecast(prompts, found)


def stop_settled(round_: Round) -> bool:
    """Withdraw what is left of a gate that is settled. Return whether there was anything to withdraw."""
    waiting = round_.gate.open()
    if not waiting.exists() or not measure_gate(round_).is_settled:
        return False
    # The condition is on the row that is updated: what is judged in full while this waits stays.
    left = Comparison.objects.filter(pk__in=waiting.values("pk"), judged__lt=F("needed"), withdrawn_at=None)
    return left.update(withdrawn_at=timezone.now()) > 0
