"""Log-probabilities of written completions by scoring them: under the reference, and to check those reported."""

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training.engine.adapters.loading import load_scored
from training.engine.config import TrainConfig
from training.engine.data.packing import pad
from training.engine.data.tokens import EncodedPair
from training.engine.errors import ConfigError
from training.engine.model.base import LoadedModel
from training.engine.model.logps import Scorer
from training.engine.sampling.decoding import Sample
from training.engine.score import make_scorer, score_pairs

_CHECKED = 4  # completions, spread over all
# What is still rounding, in nats, times the root of a completion's tokens. In bfloat16, SmolLM2-135M writes with a
# standard deviation of 0.07 from a plain forward, so this is five of them.
_APART = {torch.float32: 2e-3, torch.bfloat16: 0.35, torch.float16: 0.07}


def reference_logprobs(config: TrainConfig, samples: Sequence[Sample]) -> list[float]:
    """Return the log-probabilities of the completions under `sampling.reference`, in nats.

    Raises ConfigError if the reference is "start" and there is no start adapter.
    """
    reference = config.sampling.reference
    if reference == "start" and not config.start_adapter:
        raise ConfigError("sampling.reference", "is 'start', but start_adapter is not set.")
    adapter = {"base": None, "start": config.start_adapter}.get(str(reference), reference)
    loaded = load_scored(config, Path(adapter) if adapter else None, beside_start=False)
    return _logprobs(loaded, config, samples)


def fill_logprobs(policy: LoadedModel, config: TrainConfig, samples: Sequence[Sample]) -> None:
    """Give the completions that were cut at a stop string the log-probability of what is left of them."""
    cut = [one for one in samples if math.isnan(one.generation.logprob)]
    for one, logprob in zip(cut, _logprobs(policy, config, cut) if cut else (), strict=True):
        one.generation = replace(one.generation, logprob=logprob)


def _logprobs(loaded: LoadedModel, config: TrainConfig, samples: Sequence[Sample]) -> list[float]:
    """Return the log-probabilities of the completions under a model; 0 of one without tokens."""
    places = [place for place, one in enumerate(samples) if one.generation.token_ids]
    found = dict.fromkeys(range(len(samples)), 0.0)
    if places:
        found.update(zip(places, _scores(loaded, config, [samples[at] for at in places]), strict=True))
    return [found[place] for place in range(len(samples))]


def _scores(loaded: LoadedModel, config: TrainConfig, samples: Sequence[Sample]) -> list[float]:
    # The scorer takes pairs, whose prompt it computes once: two completions of a prompt, or the last one alone.
    groups = itertools.groupby(range(len(samples)), key=lambda at: samples[at].request.prompt)
    of_prompts = [list(group) for _, group in groups]
    couples = [group[at : at + 2] for group in of_prompts for at in range(0, len(group), 2)]
    pairs = [_as_pair(*(samples[at] for at in couple)) for couple in couples]
    scorer = make_scorer(loaded, config, pairs, lambda event: print(event, file=sys.stderr))
    found: dict[int, float] = {}
    for couple, scores in zip(couples, score_pairs(scorer, pairs).tolist(), strict=True):
        found.update(zip(couple, scores, strict=False))
    return [found[place] for place in range(len(samples))]


def find_disagreement(policy: LoadedModel, samples: Sequence[Sample]) -> str:
    """Return how the log-probability of a completion as written differs from that under `policy`, or "".

    A few completions are scored, each by one plain forward of the whole text.
    """
    scorer = Scorer(policy.model, policy.base, max_tokens=1, device=policy.device)
    scorer.use("alone")
    for one in _comparable(scorer, samples):
        drawn = replace(one, generation=one.drawn)
        scored = float(scorer.score(pad([_as_pair(drawn)], [0], alone=True))[0, 0])
        apart = abs(scored - one.drawn.logprob)
        if not apart <= _APART[policy.dtype] * len(one.drawn.token_ids) ** 0.5:
            return (
                f"the completion of prompt {one.prompt.id} was written at a log-probability of"
                f" {one.drawn.logprob:.2f}, but the policy gives it {scored:.2f}"
            )
    return ""


def _comparable(scorer: Scorer, samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return a few completions, spread over all, that do not cross a length of LongRoPE."""
    some = [
        one
        for one in samples
        if scorer.sides.side_of(len(one.request.prompt))
        == scorer.sides.side_of(len(one.request.prompt) + len(one.drawn.token_ids) - 1)
    ]
    return some[:: -(-len(some) // _CHECKED) or 1]


def _as_pair(one: Sample, other: Sample | None = None) -> EncodedPair:
    """Return completions of a prompt as a pair, or a single one as a rating has it."""
    return EncodedPair(
        id=one.prompt.id,
        prompt=one.request.prompt,
        chosen=one.generation.token_ids,
        rejected=other.generation.token_ids if other else (),
        label=1.0,
        margin=0.0,
        weight=1.0,
    )
