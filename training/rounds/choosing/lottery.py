"""The draw: which comparisons are shown, as control or by the probe, and how likely each was. Plain Python.

Groups of candidates are ranked by the gap that the probe predicts. The control is drawn first, evenly among all groups,
and evenly among a group's pairs: it is what a round at random would show. The widest pairs of the best ranked among the
other groups are shown beside it. So each pair of a group has a chance to be shown that is known exactly.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from training.rounds.choosing.candidates import Group, Pair

# Words in a row; how many of their hashes; which share in common is too much.
SHINGLE, SKETCH, ALIKE = 3, 16, 0.75
FEW = 4  # phrases that show no likeness
# Earlier pairs that are looked up for one hash: a phrase that all have in common says little.
MOST_WITH_A_HASH = 50
_WORD = re.compile(r"\w+")

Arm = Literal["control", "probe"]


@dataclass(frozen=True)
class Drawn:
    """A pair that is shown. `propensity` is its chance among the pairs of its group, given that the group is shown."""

    group: Group
    pair: Pair
    arm: Arm
    propensity: float


def rank(groups: Sequence[Group], most_per_entry: int) -> list[Group]:
    """Return the groups with the widest predicted gap first, and behind them those that would repeat one before.

    A group repeats if its prompt has `most_per_entry` before it already, or if its pair says nearly the same as a pair
    before it. Among equal gaps the order is the given one.
    """
    taken: Counter[str] = Counter()
    likeness = _Likeness()
    first: list[Group] = []
    behind: list[Group] = []
    for group in sorted(groups, key=lambda group: -group.gap):
        is_repeat = taken[group.entry] >= most_per_entry or likeness.is_near_another(group.widest)
        (behind if is_repeat else first).append(group)
        if not is_repeat:
            taken[group.entry] += 1
            likeness.add(group.widest)
    return first + behind


def draw(ranked: Sequence[Group], wanted: int, control: float, seed: str) -> list[Drawn]:
    """Draw `wanted` comparisons of the ranked groups, `control` of them at random. The same seed draws the same."""
    generator = random.Random(seed)
    if not ranked or not wanted:
        return []
    odds = Odds(len(ranked), min(wanted, len(ranked)), control)
    by_chance = set(generator.sample(range(odds.groups), odds.controls))
    others = [place for place in range(odds.groups) if place not in by_chance][: odds.wanted - odds.controls]
    shown: list[tuple[int, Arm]] = [(place, "control") for place in sorted(by_chance)]
    shown += [(place, "probe") for place in others]
    drawn = []
    for place, arm in shown:
        group = ranked[place]
        pair = generator.choice(group.pairs) if arm == "control" else group.widest
        drawn.append(Drawn(group, pair, arm, propensity(odds, place, group, pair)))
    generator.shuffle(drawn)  # the order of rows must not tell what was chosen
    return drawn


@dataclass(frozen=True)
class Odds:
    """The terms of a draw: `wanted` of so many `groups`, with the share `control` at random."""

    groups: int
    wanted: int
    control: float

    @property
    def controls(self) -> int:
        """Return how many are drawn at random: at least one, so that there always is something to compare with."""
        return min(self.wanted, max(1, round(self.control * self.wanted)))

    def as_control(self) -> float:
        """Return a group's chance to be drawn at random."""
        return self.controls / self.groups

    def by_probe(self, place: int) -> float:
        """Return the chance of the group at a place to be chosen: few enough of those before it are not control.

        Of the `place` groups before it, the number in the control is hypergeometric, given that it is not in it itself.
        """
        needed = place - (self.wanted - self.controls) + 1
        return (1 - self.as_control()) * _tail(self.groups - 1, place, self.controls, needed)


def propensity(odds: Odds, place: int, group: Group, pair: Pair) -> float:
    """Return the chance that this pair is the one that is shown, given that one of its group is shown.

    Over the pairs of a group these chances sum to one.
    """
    as_control, by_probe = odds.as_control(), odds.by_probe(place)
    chance = as_control / len(group.pairs) + (by_probe if pair == group.widest else 0.0)
    return min(1.0, chance / (as_control + by_probe))


@lru_cache(maxsize=4096)
def _tail(population: int, draws: int, marked: int, least: int) -> float:
    """Return the chance that at least `least` of `draws` are marked, `marked` of the population being so."""
    low, high = max(0, draws + marked - population), min(draws, marked)
    if least <= low:
        return 1.0
    if least > high:
        return 0.0
    return min(1.0, math.fsum(_hypergeometric(population, draws, marked, least, high)))


def _hypergeometric(population: int, draws: int, marked: int, least: int, most: int) -> Iterator[float]:
    """Yield the chances of `least` to `most` marked ones, until they no longer count."""
    log = (
        _log_choose(marked, least)
        + _log_choose(population - marked, draws - least)
        - _log_choose(population, draws)
    )
    for count in range(least, most + 1):
        yield math.exp(log)
        odds = (marked - count) * (draws - count) / ((count + 1) * (population - marked - draws + count + 1))
        if odds <= 0 or (odds < 1 and log < -60):
            return
        log += math.log(odds)


def _log_choose(many: int, few: int) -> float:
    return math.lgamma(many + 1) - math.lgamma(few + 1) - math.lgamma(many - few + 1)


# --- Pairs that say nearly the same ------------------------------------------------------------------------------


class _Likeness:
    """The pairs so far, found by phrases that they have in common.

    Texts are compared by sketches (Broder 1997): the least hashes of all rows of three words. Two texts share about as
    many of them as of their phrases. Its cost grows with the number of pairs, and not with its square.
    """

    def __init__(self) -> None:
        self._with: dict[int, list[int]] = {}
        self._count = 0

    def is_near_another(self, pair: Pair) -> bool:
        """Return whether a pair before has three in four of its phrases."""
        shared: Counter[int] = Counter()
        sketch = _sketch(pair)
        for phrase in sketch:
            shared.update(self._with.get(phrase, ()))
        return len(sketch) >= FEW and max(shared.values(), default=0) >= ALIKE * len(sketch)

    def add(self, pair: Pair) -> None:
        for phrase in _sketch(pair):
            known = self._with.setdefault(phrase, [])
            if len(known) < MOST_WITH_A_HASH:
                known.append(self._count)
        self._count += 1


@lru_cache(maxsize=2)  # asked twice of the same pair
def _sketch(pair: Pair) -> tuple[int, ...]:
    phrases = set()
    for candidate in pair:
        words = _WORD.findall(candidate.text.lower())
        phrases |= {" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}
    hashes = (int.from_bytes(blake2b(one.encode(), digest_size=8).digest()) for one in phrases)
    return tuple(sorted(hashes)[:SKETCH])
