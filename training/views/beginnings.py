"""The settings that a form of a round begins with: those of an earlier round, or of an estimate."""

from dataclasses import dataclass
from typing import Any, Self

from annotate.models import Policy, Project
from training.models import DryRun, Round
from training.rounds.estimates import with_proposals
from training.rounds.lineage import find_base


@dataclass(frozen=True)
class Like:
    """Settings that a form begins with: those of an earlier round, or of an estimate."""

    project: Project
    settings: dict[str, Any]
    trains: bool
    number: int = 0  # of the round
    taken: tuple[str, ...] = ()  # options of an estimate's proposals
    against: Policy | None = None  # which the round compared with, if not with the usual one
    start: Policy | None = None  # which it trained from, or which wrote, if not the usual one

    @classmethod
    def round(cls, round_: Round) -> Self:
        """Return the settings of a round, with its policies where they are not what an empty field stands for.

        Without another side, a round that writes has one policy for both. A gate against the start, where that was
        chosen, is kept too: an empty field is the current policy.
        """
        current = round_.project.current_policy
        usual = find_base(current) if current and round_.trains else current
        start = None if round_.start_policy == usual else round_.start_policy
        against = round_.against
        if round_.trains:
            against = against or start
            against = None if against == current else against
        elif against:
            start = round_.start_policy
        return cls(
            round_.project,
            round_.settings,
            round_.trains,
            number=round_.number,
            against=against,
            start=start,
        )

    @classmethod
    def estimate(cls, estimate: DryRun, names: list[str]) -> Self:
        settings = with_proposals(estimate, names)
        trains = estimate.kind == DryRun.Kind.ROUND
        return cls(
            estimate.project,
            settings,
            trains,
            taken=tuple(names),
            against=estimate.against,
            start=estimate.begin,
        )
