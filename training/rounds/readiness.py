"""The pairs that a round would train on now, and what became of the other judgments."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Judgment, Project, Snapshot
from annotate.pairs.counts import count_pairs
from annotate.pairs.settings import EXCLUSIONS, PairSettings
from training.engine.config import TrainConfig
from training.models import Round
from training.rounds.plan import Plan
from training.rounds.starts import RoundError, usual_start

MIN_PAIRS = 8  # fewer teach a model little but their noise


@dataclass(frozen=True)
class Account:
    """The account of a project's judgments: the pairs that they made, and comparisons left out by reason."""

    judgments: int
    comparisons: int
    train: int
    held_out: int
    left_out: list[tuple[str, int]]
    both_bad: int = 0  # comparisons that are left out for that
    rated: int = 0  # comparisons whose completions are single ratings

    @property
    def ratings(self) -> int:
        """Return how many single ratings the comparisons give whose completions are both bad."""
        return 2 * (self.rated or self.both_bad)

    @classmethod
    def from_counts(cls, counts: Mapping[str, Any]) -> Self:
        """Return the account of the counts that an aggregation, or its snapshot, holds."""
        left_out = [(str(EXCLUSIONS.get(why, why)), count) for why, count in counts["excluded"].items()]
        names = ("judgments", "comparisons", "train", "held_out")
        of_both_bad = {"both_bad": counts["excluded"].get("both_bad", 0), "rated": counts.get("rated", 0)}
        return cls(**{name: counts[name] for name in names}, **of_both_bad, left_out=left_out)


@dataclass(frozen=True)
class Readiness:
    """The readiness of a project for its next round.

    `has_enough` is false when no choice of settings gives enough pairs. `new_judgments` were made since `last`, the
    last round that trained.
    """

    account: Account
    has_enough: bool
    last: Round | None
    new_judgments: int


def find_readiness(project: Project) -> Readiness:
    """Return how ready a project is, by its own settings. Raises RoundError if no round can start from its policy."""
    plan = Plan.for_project(project, usual_start(project), {})
    account = Account.from_counts(count_pairs(project, plan.pairs))
    last = project.rounds.filter(result_policy__isnull=False).first()
    return Readiness(
        account=account,
        has_enough=account.train >= MIN_PAIRS or _may_have_enough(project, plan.pairs),
        last=last,
        new_judgments=_judgments_since(project, last) if last else 0,
    )


def _may_have_enough(project: Project, chosen: PairSettings) -> bool:
    """Return whether the settings that keep the most judgments give enough pairs."""
    widest = replace(chosen, ties="half", min_judgments=1, include_too_fast=True)
    return bool(count_pairs(project, widest)["train"] >= MIN_PAIRS)


def _judgments_since(project: Project, round_: Round) -> int:
    later = Judgment.objects.current().opinions().filter(project=project, created_at__gt=round_.created_at)
    return later.count()


def describe_trained(snapshot: Snapshot | None, config: TrainConfig) -> str:
    """Return what a round trains on, in words. Raises RoundError for pairs that it cannot train on.

    Ratings do not make up for pairs: those of “both bad” say what to avoid, and not what to write.
    """
    if snapshot is None:
        return "It trains on pairs that its worker is to freeze"
    count = snapshot.pairs.filter(held_out=False).count()
    if count < MIN_PAIRS:
        raise _too_few_pairs(count)
    goes_by_loss = config.early_stop or config.keep == "best"
    if goes_by_loss and not snapshot.pairs.filter(held_out=True).exists():
        sentence = _("It goes by the loss of judged pairs on held-out prompts, and there are none yet.")
        raise RoundError(sentence, "early_stop" if config.early_stop else "keep")
    ratings = snapshot.ratings.filter(held_out=False).count()
    return f"{count} pairs{f' and {ratings} single ratings' if ratings else ''} to train on"


def _too_few_pairs(count: int) -> RoundError:
    sentence = ngettext(
        "Preference pairs: there is %(count)d to train on, and a round needs %(min)d; judge more comparisons first.",
        "Preference pairs: there are %(count)d to train on, and a round needs %(min)d; judge more comparisons first.",
        count,
    )
    return RoundError(sentence % {"count": count, "min": MIN_PAIRS}, "pairs")
