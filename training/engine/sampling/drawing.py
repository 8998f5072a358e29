"""Drawing tokens: a uniform number a row, and where the cumulative distribution passes it.

That is inverse transform sampling. A row's numbers come from a generator that is seeded for it alone.
"""

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional

from training.engine.config import SamplingConfig
from training.engine.errors import ModelError
from training.engine.sampling.grouping import Request

_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}  # of the distributions that are worked on at once
# Tokens of a large vocabulary whose probabilities are summed before one is searched for. The first number that divides
# the vocabulary is taken: filling up the last part would copy everything.
_SEARCHED = (512, 256, 128, 64)
_LARGE_VOCABULARY = 1 << 14
_NUCLEUS = 1024  # tokens among which the likeliest ones are looked for, before a whole vocabulary is sorted


def uniforms(seed: int, count: int) -> torch.Tensor:
    """Return `count` numbers in [0, 1) that depend on `seed` alone."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def tokens_said(requests: Sequence[Request], logits: torch.Tensor) -> torch.Tensor:
    """Return which tokens (R, V) each row's prompt holds. `logits` (R, V) gives the size and the device."""
    said = torch.zeros_like(logits, dtype=torch.bool)
    for row, request in zip(said, requests, strict=True):
        row[list(request.prompt)] = True
    return said


def check_finite(logps: torch.Tensor) -> None:
    """Check the log-probabilities of what was drawn. Raises ModelError if one is not a number."""
    if bool(logps.isnan().any()):  # one logit that is not a number makes its whole row so
        raise ModelError("The policy gives probabilities that are not finite; its weights are damaged.")


def draw(
    logits: torch.Tensor, numbers: torch.Tensor, settings: SamplingConfig, said: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token a row from logits (R, V) with uniform numbers (R,); temperature 0 takes the likeliest.

    `said` (R, V) are the tokens that `repetition_penalty` is about. Returns ids (R,) and their float32
    log-probabilities (R,) at temperature 1 with nothing cut off or penalized. A row with a logit that is not a number
    has such a log-probability.
    """
    ids, logps = [], []
    rows = max(1, _ELEMENTS[logits.device.type] // logits.shape[1])
    parts = said.split(rows) if said is not None else itertools.repeat(None)
    for some, number, repeated in zip(logits.split(rows), numbers.split(rows), parts, strict=False):
        logprobs = some.log_softmax(dim=-1, dtype=torch.float32)
        scores = logprobs if repeated is None else _penalize(some.float(), repeated, settings)
        taken = _take(scores, number, settings)
        ids.append(taken)
        logps.append(logprobs.gather(1, taken[:, None])[:, 0])
    return torch.cat(ids), torch.cat(logps)


def _penalize(logits: torch.Tensor, said: torch.Tensor, settings: SamplingConfig) -> torch.Tensor:
    """Return log-probabilities (R, V) of logits with those `said` pushed down (Keskar et al., 1909.05858, section 4.1).

    A positive score is divided by the penalty, a negative one multiplied, as transformers and vLLM do.
    """
    penalty = settings.repetition_penalty
    pushed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(said, pushed, logits).log_softmax(dim=-1)


def _take(logprobs: torch.Tensor, numbers: torch.Tensor, settings: SamplingConfig) -> torch.Tensor:
    """Return ids (R,): where the cumulative distribution passes the number; a token without probability never is."""
    if settings.temperature == 0:
        return logprobs.argmax(dim=-1)
    odds = _kept(logprobs, settings)
    if odds.shape[1] < _LARGE_VOCABULARY:
        cumulative = odds.cumsum(dim=-1)
        return _first_above(cumulative, numbers[:, None] * cumulative[:, -1:])[:, 0]
    size = next((one for one in _SEARCHED if odds.shape[1] % one == 0), _SEARCHED[0])
    if missing := -odds.shape[1] % size:
        odds = functional.pad(odds, (0, missing))
    parts = odds.view(len(odds), -1, size)
    cumulative = parts.sum(dim=-1).cumsum(dim=-1)
    passed = numbers[:, None] * cumulative[:, -1:]
    part = _first_above(cumulative, passed)
    before = functional.pad(cumulative, (1, 0)).gather(1, part)
    inside = parts.gather(1, part[:, :, None].expand(-1, 1, size))[:, 0].cumsum(dim=-1)
    found = part * size + _first_above(inside, passed - before)
    # What fills up the last part is drawn without numbers alone.
    return found[:, 0].clamp(max=logprobs.shape[1] - 1)


def _first_above(cumulative: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return where sums (R, N) first pass numbers (R, 1), which are cut to stay below the last: (R, 1).

    Sums that are no numbers pass none, and the last place is returned.
    """
    total = cumulative[:, -1:]
    cut = torch.minimum(numbers, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, cut, right=True).clamp(max=cumulative.shape[1] - 1)


def _kept(logprobs: torch.Tensor, settings: SamplingConfig) -> torch.Tensor:
    """Return probabilities (R, V), not normalized: by temperature, then top_k, top_p of the rest, and min_p."""
    odds = _most_likely(logprobs, settings)
    if not settings.min_p:
        return odds
    return odds.masked_fill(odds < settings.min_p * odds.amax(dim=-1, keepdim=True), 0.0)


def _most_likely(logprobs: torch.Tensor, settings: SamplingConfig) -> torch.Tensor:
    """Return probabilities (R, V), not normalized: by temperature, then top_k, then top_p of the rest."""
    scores = logprobs if settings.temperature == 1 else logprobs / settings.temperature
    if 0 < settings.top_k < scores.shape[1]:
        least = scores.topk(settings.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if settings.temperature == 1 and settings.top_p == 1:
        return scores.exp()
    probabilities = scores.softmax(dim=-1)
    if settings.top_p == 1:
        return probabilities
    return _nucleus(probabilities, settings.top_p)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return probabilities (R, V) with 0 in place of all but the likeliest tokens, which add up to `top_p`.

    Of tokens that are equally likely, the first ones stay.
    """
    # To sort a whole vocabulary takes as long as the model: mostly, the likeliest few tokens are enough.
    likeliest = probabilities.topk(min(_NUCLEUS, probabilities.shape[1]), dim=-1).values
    inside = (likeliest.cumsum(dim=-1) - likeliest < top_p).sum(dim=-1)
    kept = probabilities >= likeliest.gather(1, (inside[:, None] - 1).clamp(min=0))  # 0 without numbers
    nucleus = probabilities.masked_fill(~kept, 0.0)
    rest = ((inside == likeliest.shape[1]) | (kept.sum(dim=-1) != inside)).nonzero()[:, 0]
    if len(rest):
        falling, order = probabilities[rest].sort(dim=-1, descending=True, stable=True)
        before = falling.cumsum(dim=-1) - falling
        nucleus[rest] = torch.zeros_like(falling).scatter(1, order, falling.masked_fill(before >= top_p, 0.0))
    return nucleus
