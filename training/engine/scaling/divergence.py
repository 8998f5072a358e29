"""KL(policy || reference) of completions that the policy wrote, by the distributions along each of them.

For a completion y drawn from the policy, the sum over its tokens of

    KL(policy(. | x, y_<t) || reference(. | x, y_<t))

has the expectation of log policy(y|x) - log reference(y|x): the chain rule of KL (Amini, Vieira and Cotterell,
2504.10637, equations 8 and 9, who show that its variance is never larger: Rao and Blackwell's theorem token by token).
It is never negative, and free of the noise of which token was drawn. What is left is that of which way a completion
took, so single completions still weigh heavily.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from training.engine.adapters.loading import as_reference
from training.engine.data.packing import PairRow
from training.engine.data.tokens import EncodedPair
from training.engine.model.logps import Predictions, Scorer
from training.engine.sampling.decoding import Sample

_ELEMENTS = 1 << 24  # of a vocabulary's probabilities that are worked on at once


@dataclass(frozen=True)
class Reading:
    """A completion as policy and reference see it, in nats: the sum of its tokens' divergences, and both scores."""

    kl: float
    logprob: float
    reference_logprob: float


def read_completions(scorer: Scorer, samples: Sequence[Sample]) -> list[Reading]:
    """Return what the model, as policy and as reference, makes of each completion. An empty one is of no token."""
    places = [place for place, one in enumerate(samples) if one.drawn.token_ids]
    pairs = [as_rating(samples[place]) for place in places]
    found = {place: Reading(0.0, 0.0, 0.0) for place in range(len(samples))}
    for row in scorer.rows(pairs, scorer.groups(pairs, range(len(pairs)))):
        ours = scorer.predictions(row)
        with as_reference(scorer.model):
            theirs = scorer.predictions(row)
        sums = _sums(row, _by_token(ours, theirs, row.targets.to(ours.states.device)))
        for at, figures in zip(row.pairs, sums, strict=True):
            found[places[at]] = Reading(*figures)
    return [found[place] for place in range(len(samples))]


def as_rating(one: Sample) -> EncodedPair:
    """Return a completion as it was drawn, without another beside it."""
    return EncodedPair(
        id=one.prompt.id,
        prompt=one.request.prompt,
        chosen=one.drawn.token_ids,
        rejected=(),
        label=1.0,
        margin=0.0,
        weight=1.0,
    )


def _by_token(ours: Predictions, theirs: Predictions, targets: torch.Tensor) -> torch.Tensor:
    """Return divergence and both log-probabilities of each token, (N, 3) in float64."""
    return torch.cat(list(_parts(ours, theirs, targets)))


def _parts(ours: Predictions, theirs: Predictions, targets: torch.Tensor) -> Iterator[torch.Tensor]:
    vocabulary = ours.states.shape[1] if ours.head is None else len(ours.head.weight)
    at_once = max(1, _ELEMENTS // vocabulary)
    for start in range(0, len(targets), at_once):
        part = slice(start, start + at_once)
        p, q = ours.log_probabilities(part), theirs.log_probabilities(part)
        # A token that the policy never writes adds nothing, whatever the reference says of it.
        kl = torch.where(p > -torch.inf, p.exp() * (p - q), 0.0).sum(dim=-1).clamp_min(0.0)
        drawn = targets[part, None]
        yield torch.stack([kl, p.gather(1, drawn)[:, 0], q.gather(1, drawn)[:, 0]], dim=1).double()


def _sums(row: PairRow, figures: torch.Tensor) -> list[list[float]]:
    """Return the sums over the tokens of each pair's first completion, its only one."""
    parts = figures.split(row.lengths.tolist())[0::2]
    return [part.sum(dim=0).tolist() for part in parts]
