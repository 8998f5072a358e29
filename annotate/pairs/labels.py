"""The label that a comparison's verdicts give it now, and what is known of those who gave them."""

from dataclasses import dataclass

from annotate.models import Comparison, Judgment
from annotate.pairs.aggregation import ballots_of, read_votes
from annotate.pairs.ballots import Ballot, find_outcome
from annotate.pairs.settings import PairSettings
from annotate.reports.recalled import recall_evidence
from annotate.reports.reliability import ENOUGH_CHECKS


@dataclass(frozen=True)
class PresentLabel:
    """The better completion by the verdicts so far, with the chance that it is.

    `evidence` names what tells how reliable annotators are; it is empty where all votes count the same.
    """

    letter: str
    chance: float
    evidence: list[str]


def find_label(comparison: Comparison) -> PresentLabel | None:
    """Return the label that a comparison has by default settings; None where its verdicts prefer neither."""
    votes = list(read_votes(Judgment.objects.current().filter(comparison=comparison)))
    if not votes:
        return None
    evidence = recall_evidence(comparison.project)
    weights = evidence.weigh(ENOUGH_CHECKS)
    cast = [Ballot._make(columns) for columns in ballots_of(votes, by_voter=weights is not None)]
    outcome = find_outcome(cast, PairSettings(), weights)
    if isinstance(outcome, str):
        return None
    return PresentLabel(
        "A" if outcome.first_is_chosen else "B", outcome.label, evidence.kinds() if weights else []
    )
