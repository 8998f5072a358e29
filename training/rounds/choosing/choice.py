"""The choice among a round's samples, as its files have them. It leaves a line for each group of candidates.

The samples of a round may be many: they are read in a stream, and of most of them the text alone is kept.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.rounds.choosing.candidates import Candidate, Group, count_uneven, sift
from training.rounds.choosing.lottery import Arm, Drawn, Odds, draw, rank
from training.rounds.choosing.terms import Terms

FILE = "choices.jsonl"
FRESH = "fresh/"  # how the ids of prompts begin that are compared afresh

Key = tuple[str, int]  # the id of a prompt's line, and the sample's place among its samples


@dataclass(frozen=True)
class Shown:
    """A comparison that is shown: two samples of a prompt's line, by their places, and how likely that was."""

    entry: str
    indices: tuple[int, int]
    arm: Arm
    propensity: float

    @property
    def keys(self) -> tuple[Key, Key]:
        return (self.entry, self.indices[0]), (self.entry, self.indices[1])


def choose(files: RunDirectory, ratings: Path, terms: Terms, wanted: int, seed: str) -> dict[str, Any]:
    """Choose among the samples in a run directory by their ratings, and write what was chosen. Return a summary.

    The same files and seed give the same choice.
    """
    passed_over: Counter[str] = Counter()
    groups = []
    entries: set[str] = set()
    for entry, place, candidates in _read_groups(files.samples, ratings, terms.candidates):
        entries.add(entry)
        left = sift(candidates, passed_over)
        if len(left) < 2:
            passed_over["no_two_left"] += 1
        else:
            groups.append(Group(entry, place, tuple(left)))
    passed_over["uneven"] = sum(map(count_uneven, groups))
    ranked = rank(groups, math.ceil(wanted / max(1, len(entries))))
    drawn = draw(ranked, wanted, terms.control, seed)
    write_jsonl(files.root / FILE, _lines(ranked, drawn, wanted, terms.control))
    arms = Counter(one.arm for one in drawn)
    return {
        "by": "probe",
        "candidates": terms.candidates,
        "groups": len(groups),
        "chosen": arms["probe"],
        "control": arms["control"],
        "passed_over": dict(+passed_over),
    }


def read_shown(files: RunDirectory) -> list[Shown] | None:
    """Return what was chosen, the widest predicted gap first; None where nothing was chosen by a probe."""
    path = files.root / FILE
    if not path.exists():
        return None
    return [
        Shown(row["id"], (row["shown"][0], row["shown"][1]), row["arm"], row["propensity"])
        for _line, row in read_jsonl(path)
        if row["shown"]
    ]


def _read_groups(samples: Path, ratings: Path, size: int) -> Iterator[tuple[str, int, list[Candidate]]]:
    """Yield an entry's id, the group's place in it, and its candidates, `size` in a row."""
    scores = {
        (row["id"], row["index"]): float(row["score"]) for row in _fresh(ratings) if row["score"] is not None
    }
    found: dict[tuple[str, int], list[Candidate]] = {}
    for row in _fresh(samples):
        score = scores.get((row["id"], row["index"]))
        if score is not None:  # the probe could not read the others, such as empty ones
            candidate = Candidate(row["index"], row["completion"], score, row["finish_reason"] == "length")
            found.setdefault((row["id"], row["index"] // size), []).append(candidate)
    for (entry, place), candidates in sorted(found.items()):
        yield entry, place, sorted(candidates, key=lambda one: one.index)


def _fresh(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _line, row in read_jsonl(path) if row["id"].startswith(FRESH))


def _lines(ranked: list[Group], drawn: list[Drawn], wanted: int, control: float) -> Iterator[dict[str, Any]]:
    """Yield a line for each group, the best ranked first: its candidates, its chance to be shown, and what was."""
    odds = Odds(len(ranked), min(wanted, len(ranked)), control)
    shown = {(one.group.entry, one.group.place): one for one in drawn}
    for place, group in enumerate(ranked):
        one = shown.get((group.entry, group.place))
        yield {
            "id": group.entry,
            "candidates": [candidate.index for candidate in group.candidates],
            "scores": [candidate.score for candidate in group.candidates],
            "pairs": len(group.pairs),
            "gap": group.gap,
            "chance": odds.as_control() + odds.by_probe(place),
            "shown": [candidate.index for candidate in one.pair] if one else None,
            "arm": one.arm if one else None,
            "propensity": one.propensity if one else None,
        }
