"""The terms under which a round's fresh comparisons are chosen: decided once, before it writes, and kept beside it."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from django.utils.translation import gettext as _

from primitives.files import write_whole
from training.engine.rundir import RunDirectory
from training.models import Round
from training.rounds.choosing.settings import ALWAYS, RANDOM, Choosing
from training.rounds.choosing.votes import has_enough
from training.standings.audit import measure_audit

FILE = "choosing.json"
SURPLUS = 1.5  # prompts to write for, for each comparison: those with the widest gaps are asked about
MOST_SAMPLES = 200_000  # candidates of a round: with more comparisons, each has fewer


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a choice: whether the probe chooses, among how many candidates, with which share of control.

    `why` says why it does not, if it does not.
    """

    by_probe: bool = False
    candidates: int = 2
    control: float = 1.0
    why: str = ""

    def count_groups(self, wanted: int, prompts: int) -> int:
        """Return for how many comparisons candidates are written: more than wanted, where there are prompts for it."""
        return max(wanted, min(math.ceil(SURPLUS * wanted), prompts)) if self.by_probe else wanted


AT_RANDOM = Terms()


def may_choose(round_: Round, choosing: Choosing) -> bool:
    """Return whether a probe may choose in a round at all. Two policies that are compared write one side each."""
    return choosing.by != RANDOM and (round_.trains or round_.against is None)


def decide_terms(
    round_: Round, choosing: Choosing, wanted: int, files: RunDirectory, probe: dict[str, Any] | None
) -> Terms:
    """Return the terms of a round of `wanted` comparisons, and keep them: a retry finds them decided.

    `probe` is the skill that the engine reported of the round's probe, if it has one.
    """
    known = read_terms(files)
    if known is not None:
        return known
    found = _decide(round_, choosing, wanted, probe)
    keep_terms(files, found)
    return found


def expect_terms(round_: Round, choosing: Choosing, wanted: int) -> Terms:
    """Return the terms that a round would have if its probe has skill: those that cost the most."""
    return _decide(round_, choosing, wanted, {"has_skill": has_enough(round_.project)})


def keep_terms(files: RunDirectory, terms: Terms) -> None:
    """Write the terms, for this attempt and later ones."""
    write_whole(files.root / FILE, json.dumps(asdict(terms), indent=1).encode() + b"\n")


def read_terms(files: RunDirectory) -> Terms | None:
    """Return the terms that were decided; None before that."""
    try:
        return Terms(**json.loads((files.root / FILE).read_bytes()))
    except FileNotFoundError:
        return None


def _decide(round_: Round, choosing: Choosing, wanted: int, probe: dict[str, Any] | None) -> Terms:
    if not may_choose(round_, choosing):
        return AT_RANDOM
    if probe is None:
        return Terms(why=_("There are too few judgments to fit a probe to."))
    if not probe.get("has_skill"):
        return Terms(why=_("The probe does not predict held-out judgments yet."))
    if choosing.by != ALWAYS and (audit := measure_audit(round_.project)).is_refuted:
        return Terms(why=_("Choosing saves too little.") + " " + audit.in_words())
    within = MOST_SAMPLES // max(1, math.ceil(SURPLUS * wanted))
    candidates = max(2, min(choosing.candidates, within))
    return Terms(by_probe=True, candidates=candidates, control=float(choosing.control))
