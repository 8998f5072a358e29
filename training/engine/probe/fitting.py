"""The fit of a probe to votes, together with the reliability of those who cast them.

A probe and the annotators tell each other what is right, in turns (expectation-maximization, as RE-PO has it: Cao et
al., 2509.24159). The probe votes on a comparison only by a fit that left out all comparisons of that prompt. So its
votes are evidence on people that they did not give themselves, and its skill is that on prompts it has not seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from primitives.reliability import Reliability, chance_of_first, estimate
from training.engine.probe.regression import Posterior, find_directions, fit
from training.engine.probe.skill import Skill, measure
from training.engine.probe.votes import VotedPair

FOLDS = 5
_TURNS, _CLOSE = 12, 0.005


@dataclass(frozen=True)
class FittedProbe:
    """A probe over differences of features, and what came of the votes.

    `chances` are those of the cross-fitted probe that the first is better, and `labels` the same given the votes too.
    """

    posterior: Posterior
    skill: Skill
    reliability: dict[str, Reliability]
    chances: list[float]
    labels: list[float]


def fit_probe(
    voted: Sequence[VotedPair],
    differences: torch.Tensor,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> FittedProbe:
    """Fit a probe to comparisons and their differences of features (n, d), standardized.

    Comparisons without a preference teach it nothing; they are labelled all the same. Without skill the
    probe has no part in labels and reliability.
    """
    folds = assign_folds(voted)
    directions = find_directions(differences)
    told = torch.tensor([one.is_decided for one in voted], dtype=torch.bool)
    crossed: list[Posterior | None] = [None] * FOLDS
    chances = torch.full((len(voted),), 0.5, dtype=torch.float64)
    people = estimate(one.item() for one in voted)
    for turn in range(_TURNS):
        said, before = _said(voted, people), chances.clone()
        for fold in range(FOLDS):
            learnt, asked = told & (folds != fold), folds == fold
            if not learnt.any() or not asked.any():
                continue
            last = crossed[fold]
            alpha = last.alpha if last and turn > 1 else None  # which hardly moves by then
            found = fit(directions.coordinates[learnt], said[learnt], alpha=alpha, start=last)
            crossed[fold], chances[asked] = found, found.chance(directions.coordinates[asked])
        people = _people(voted, chances)
        report(turn + 1, _TURNS)
        if bool(((chances - before).abs() < _CLOSE).all()):
            break
    skill = measure(voted, chances.tolist(), people)
    if not skill.has_skill:
        people = estimate(one.item() for one in voted)
    used = chances if skill.has_skill else torch.full_like(chances, 0.5)
    labels = [label_of(one, chance, people) for one, chance in zip(voted, used.tolist(), strict=True)]
    posterior = fit(directions.coordinates[told], _said(voted, people)[told])
    return FittedProbe(directions.lift(posterior), skill, people, chances.tolist(), labels)


def _people(voted: Sequence[VotedPair], chances: torch.Tensor) -> dict[str, Reliability]:
    return estimate(one.item(chance) for one, chance in zip(voted, chances.tolist(), strict=True))


def _said(voted: Sequence[VotedPair], people: dict[str, Reliability]) -> torch.Tensor:
    """Return the chance that the first is better by the votes alone, (n,)."""
    values = {name: one.value for name, one in people.items()}
    return torch.tensor([chance_of_first(one.item(), values) for one in voted], dtype=torch.float64)


def label_of(one: VotedPair, chance: float, people: dict[str, Reliability]) -> float:
    """Return the chance that the first is better, given the votes and the probe's chance. A tie pulls to one half.

    A tie counts as much as a vote. Where there are ties alone, the label is one half: people saw no difference.
    """
    values = {name: reliability.value for name, reliability in people.items()}
    decided = chance_of_first(one.item(chance), values) if one.is_decided else 0.5
    return 0.5 + (decided - 0.5) * len(one.votes) / (len(one.votes) + one.ties) if one.ties else decided


def assign_folds(voted: Sequence[VotedPair]) -> torch.Tensor:
    """Return the fold of each comparison: prompts are dealt out by their hash, whatever the order of the lines."""
    prompts = sorted({one.prompt_key for one in voted})
    fold_of = {prompt: at % FOLDS for at, prompt in enumerate(prompts)}
    return torch.tensor([fold_of[one.prompt_key] for one in voted], dtype=torch.long)
