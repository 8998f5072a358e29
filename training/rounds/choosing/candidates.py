"""The candidates of a prompt, and which two of them can make a comparison. Plain Python: no row, no file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from primitives.text import is_storable

# Of the lengths of two completions, and a difference that is small anyway, in characters.
MOST_RATIO, SMALL = 2.0, 80

Pair = tuple["Candidate", "Candidate"]


@dataclass(frozen=True)
class Candidate:
    """A completion that may be compared. `index` is its place among the samples of its prompt."""

    index: int
    text: str
    score: float
    is_cut: bool = False


@dataclass(frozen=True)
class Group:
    """The candidates of one comparison. `entry` is the id of their prompt's line, `place` the group's place in it."""

    entry: str
    place: int
    candidates: tuple[Candidate, ...]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Return the pairs that may be shown, in a fixed order: those of very unequal length only if all are."""
        pairs = list(combinations(self.candidates, 2))
        return [pair for pair in pairs if _is_even(pair)] or pairs

    @cached_property
    def widest(self) -> Pair:
        """Return the pair with the largest predicted gap: best against worst, where their lengths allow it."""
        return max(self.pairs, key=_gap)

    @property
    def gap(self) -> float:
        return _gap(self.widest)


def _gap(pair: Pair) -> float:
    return abs(pair[0].score - pair[1].score)


def _is_even(pair: Pair) -> bool:
    shorter, longer = sorted(len(one.text) for one in pair)
    return longer <= MOST_RATIO * shorter or longer - shorter <= SMALL


def unfitness(text: str) -> str:
    """Return why a completion can be in no comparison, as it is counted: `empty`, `unstorable`, or ""."""
    if not text.strip():
        return "empty"
    # A model may write a NUL, which PostgreSQL does not hold. Without it, the text would not be that of its token ids.
    return "" if is_storable(text) else "unstorable"


def sift(candidates: Sequence[Candidate], passed_over: Counter[str]) -> list[Candidate]:
    """Return the candidates without empty, unstorable, equal and cut ones, and count those in `passed_over`.

    Of equal texts the first stays. Cut ones stay where fewer than two others are left.
    """
    distinct: dict[str, Candidate] = {}
    for candidate in candidates:
        text = candidate.text.strip()
        if why := unfitness(text) or ("equal" if text in distinct else ""):
            passed_over[why] += 1
        else:
            distinct[text] = candidate
    found = list(distinct.values())
    whole = [candidate for candidate in found if not candidate.is_cut]
    if len(whole) < 2:
        return found
    passed_over["cut"] += len(found) - len(whole)
    return whole


def count_uneven(group: Group) -> int:
    """Return how many pairs the rule on lengths left out."""
    every = len(group.candidates) * (len(group.candidates) - 1) // 2
    return every - len(group.pairs)
