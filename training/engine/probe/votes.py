"""The lines of `votes.jsonl`: comparisons with everybody's votes, checked and typed.

Imports nothing heavy.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primitives.reliability import Item
from training.engine.config.checks import shortened
from training.engine.errors import DataError
from training.engine.records import TrainingPair, check_encodable, parse_pair
from training.engine.rundir import read_jsonl

SIDES = ("first", "second")


@dataclass(frozen=True, kw_only=True, slots=True)
class VotedPair:
    """One comparison: as a pair whose chosen completion is the first, with its votes for either.

    `gold` says whether the first is known to be the better one, None where nothing is known.
    """

    pair: TrainingPair
    votes: tuple[tuple[str, bool], ...]
    ties: int
    gold: bool | None

    @property
    def id(self) -> str:
        """Return what the file calls it."""
        return self.pair.id

    @property
    def is_decided(self) -> bool:
        """Return whether anything says which is better: a preference, or a known answer."""
        return bool(self.votes) or self.gold is not None

    @property
    def share(self) -> float:
        """The share of votes for the first, a tie counting half; one half without any."""
        count = len(self.votes) + self.ties
        return (sum(first for _, first in self.votes) + self.ties / 2) / count if count else 0.5

    @property
    def prompt_key(self) -> str:
        """A hash of its prompt and tools: comparisons of one prompt are left out together."""
        told = json.dumps([self.pair.prompt, self.pair.tools], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def item(self, chance: float = 0.5) -> Item:
        """Return its votes with the chance, by what else is known, that the first is better."""
        return Item(self.votes, chance if self.gold is None else float(self.gold))


def read_votes(path: Path) -> Iterator[VotedPair]:
    """Yield the comparisons of a file, in order. Raises DataError naming the line."""
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where = f"{path.name} line {number}"
        gold = row.get("gold")
        if gold not in (None, *SIDES):
            raise DataError(f'{where}: gold must be "first" or "second", not {shortened(gold)}.')
        votes = list(_votes(row, where))
        pair = parse_pair(row, where, SIDES)
        if pair.id in seen:
            raise DataError(f"{where} repeats the id {shortened(pair.id)} of line {seen[pair.id]}.")
        seen[pair.id] = number
        yield VotedPair(
            pair=pair,
            votes=tuple((who, prefers == "first") for who, prefers in votes if prefers != "tie"),
            ties=sum(prefers == "tie" for _, prefers in votes),
            gold=None if gold is None else gold == "first",
        )


def _votes(row: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Yield who voted how. Raises DataError, even for one who voted twice."""
    votes = row.get("votes")
    if not isinstance(votes, list) or not all(isinstance(vote, dict) for vote in votes):
        raise DataError(f"{where}: votes must be a list of objects.")
    voters = set()
    for vote in votes:
        annotator, prefers = vote.get("annotator"), vote.get("prefers")
        if not isinstance(annotator, str) or not annotator:
            raise DataError(f"{where}: votes need an annotator, as text.")
        check_encodable(annotator, "annotator", where)
        if prefers not in (*SIDES, "tie"):
            raise DataError(f'{where}: prefers must be "first", "second" or "tie", not {shortened(prefers)}.')
        if annotator in voters:
            raise DataError(f"{where}: {shortened(annotator)} voted twice.")
        voters.add(annotator)
        yield annotator, prefers
