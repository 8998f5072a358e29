"""Writing completions with a causal language model: many rows at once, each as if it were alone.

A group of prompts of like length is fed once, left-padded; its keys and values are then repeated for every
completion that a prompt gets. Each step writes into the cache in place, and once some of the rows have ended they
leave the batch, and the last ones take their places. The log-probability of each token comes from the same
forward that it was drawn from.

A row draws one uniform number per token from a generator seeded for it alone, and takes the token where the
cumulative distribution passes that number (inverse transform sampling). So a completion depends on its prompt
and seed and not on the rows beside it, up to rounding: matrix products of another shape differ in the last
float32 bits, which moves a token only where the number is within about 1e-6 of the edge between two.

On a CPU the products of a small model are too small to be shared by threads: there each thread writes a group of
its own.
"""

import copy
import itertools
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch.nn import functional

from training.engine.config import SamplingConfig
from training.engine.errors import MemoryShortError, ModelError, memory_short
from training.engine.model.forwards import AttentionChoice
from training.engine.model.longrope import Sides
from training.engine.model.threads import Crew, threads_apart
from training.engine.records import SamplingPrompt
from training.engine.sampling.grouping import Request, make_groups, tokens_at_once
from training.engine.sampling.kvcache import ONE_QUERY
from training.engine.sampling.reading import Reader, Way, ways_for

Report = Callable[[int, float], None]
Watch = Callable[[torch.Tensor], None]  # the ids so far (t,) of a completion that is written alone

_TOO_LARGE = (
    "Out of memory: not even one completion, of a prompt of {:,} tokens, fits beside the model;"
    " lower sampling.max_new_tokens, leave long prompts out, or choose a smaller model."
)
_ROWS_ALONE = 64  # at the least: with fewer, threads wait for one another's Python
_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}  # of the distributions that are worked on at once
_SEARCHED = 512  # tokens of a large vocabulary whose probabilities are summed before one is searched for
_LARGE_VOCABULARY = 1 << 14
_NUCLEUS = 1024  # tokens among which the likeliest ones are looked for, before a whole vocabulary is sorted
# How much longer than needed a row may be: kernels of a GPU take about as long for more columns.
_WIDEST = {"cpu": 1.5, "cuda": 3.0}


@dataclass(frozen=True, slots=True)
class Generation:
    """One completion.

    `token_ids` hold the end-of-sequence id where the model ended ("stop") and not where it was cut ("length").
    `logprob` is their summed log-probability in nats under the policy itself: temperature 1, nothing cut off.
    """

    token_ids: tuple[int, ...]
    logprob: float
    finish_reason: str


@dataclass(slots=True)
class Sample:
    """One completion and where it belongs."""

    prompt: SamplingPrompt
    index: int
    request: Request
    generation: Generation  # as it is kept
    text: str
    drawn: Generation  # as it was written, before it was cut at a stop string


class Stops(Protocol):
    """Texts on which writing ends: `training.engine.sampling.stopping.StopStrings`."""

    window: int  # tokens at the end of a completion that hold such a text, if it has just been written

    def ended(self, tails: Sequence[Sequence[int]]) -> list[int]:
        """Return the positions of those of `tails` whose text holds one."""
        ...


class Decoder:
    """Writes completions with one model under one set of sampling settings."""

    def __init__(
        self,
        model: Any,
        eos_ids: frozenset[int],
        device: torch.device,
        settings: SamplingConfig,
        stops: Stops | None = None,
    ) -> None:
        self.stops = stops
        self.watch: Watch | None = None
        self.model, self.device, self.settings = model, device, settings
        self.eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.long, device=device)
        self._attention = AttentionChoice(model)
        self.reader, self.sides = Reader(model, device), Sides(model.config)
        self.ways = ways_for(device)
        self.use(self.ways[0])

    def use(self, way: Way) -> None:
        """Write in this way from now on."""
        self.way = way
        self._attention.use(ONE_QUERY if way.swift and self._attention.own[""] == "sdpa" else None)

    def release(self) -> None:
        """Give the model its own attention back."""
        self._attention.use(None)

    def write(
        self, requests: Sequence[Request], report: Report = lambda done, share: None
    ) -> list[Generation]:
        """Complete every request, in the order given.

        `report` is told how many have ended so far, and which share of the tokens is dealt with: read, written, or not
        needed any more. Raises ModelError if the model's logits are not finite, MemoryShortError if not even one row
        fits into the device's memory.
        """
        threads = self.threads_for(requests)
        groups = self.groups(requests, threads)
        models = self._models(threads)
        longest = self.settings.max_new_tokens
        tally = _Tally([sum(len(requests[at].prompt) + longest for at in group) for group in groups], report)
        found: dict[int, Generation] = {}

        def job(number: int, stopping: threading.Event) -> None:
            def tell(ended: int, left: int) -> None:
                if stopping.is_set():
                    raise _StoppedError
                tally.tell(number, ended, left)

            model = models.get()
            try:
                some = self._write_halving(model, [requests[at] for at in groups[number]], tell)
            finally:
                models.put(model)
            tell(len(some), 0)  # with those that were cut, which did not end before
            found.update(zip(groups[number], some, strict=True))

        with Crew(threads) as crew:
            crew.run([partial(job, number) for number in range(len(groups))])
        return [found[at] for at in range(len(requests))]

    def threads_for(self, requests: Sequence[Request]) -> int:
        """Return how many groups of `requests` are written at a time."""
        apart = threads_apart(self.model.config, self.device)
        return max(1, min(apart, len(requests) // _ROWS_ALONE))

    def groups(self, requests: Sequence[Request], threads: int = 1) -> list[list[int]]:
        """Return positions of `requests` in groups that are written side by side."""
        return make_groups(
            requests,
            self.settings.batch_size,
            threads,
            self._company,
            new=self.settings.max_new_tokens,
            tokens=tokens_at_once(self.model, self.device, self.settings),
            widest=_WIDEST[self.device.type],
        )

    def _company(self, request: Request) -> Hashable:
        """Return what all requests of a group must share, so that their prompts can be read together."""
        length = len(request.prompt)
        first, last = (self.sides.side_of(one) for one in (length, length + self.settings.max_new_tokens))
        return first, last, length if first != last or not self.way.padded else None

    def _models(self, count: int) -> queue.SimpleQueue[Any]:
        """Return the model for each of `count` threads: weights are shared, the state of modules is not."""
        models: queue.SimpleQueue[Any] = queue.SimpleQueue()
        models.put(self.model)
        for _ in range(count - 1):
            models.put(copy.deepcopy(self.model, {id(weight): weight for weight in self.model.parameters()}))
        return models

    @torch.inference_mode()
    def _write_halving(
        self, model: Any, requests: Sequence[Request], report: Callable[[int, int], None]
    ) -> list[Generation]:
        """Complete a group, or where it does not fit into memory one half after the other.

        No completion depends on the group that it is written in, so smaller ones write the same. `report` is told how
        many have ended, and how many tokens are left to write at most. Raises MemoryShortError.
        """
        try:
            return self._write_group(model, requests, report)
        except (RuntimeError, MemoryError) as error:
            if memory_short(error) is None:
                raise
            if len(requests) == 1:
                raise MemoryShortError(_TOO_LARGE.format(len(requests[0].prompt))) from None
        half = len(requests) // 2
        later = sum(len(one.prompt) + self.settings.max_new_tokens for one in requests[half:])
        first = self._write_halving(model, requests[:half], lambda ended, left: report(ended, left + later))
        return first + self._write_halving(
            model, requests[half:], lambda ended, left: report(half + ended, left)
        )

    def _write_group(
        self, model: Any, requests: Sequence[Request], report: Callable[[int, int], None]
    ) -> list[Generation]:
        """Complete requests whose prompts are of like length, all in one batch."""
        settings, longest = self.settings, self.settings.max_new_tokens
        logits, read = self.reader.read(model, [request.prompt for request in requests], self.way, longest)
        look = read.look if self.stops is None else 1
        draws = torch.stack([uniforms(request.seed, longest) for request in requests]).to(self.device)
        tokens = torch.zeros(len(requests), longest, dtype=torch.long, device=self.device)
        logps = torch.zeros(len(requests), dtype=torch.float64, device=self.device)
        lengths = torch.full((len(requests),), longest, device=self.device)
        ended = torch.zeros(len(requests), dtype=torch.bool, device=self.device)
        rows = torch.arange(len(requests), device=self.device)  # those that the batch still holds
        said = tokens_said(requests, logits) if settings.repetition_penalty != 1 else None
        for step in range(longest):
            drawn, drawn_logps = draw(logits, draws[rows, step], settings, said)
            if said is not None:
                said.scatter_(1, drawn[:, None], True)
            tokens[rows, step] = drawn
            logps[rows] += drawn_logps.masked_fill(ended[rows], 0.0)
            stopping = torch.isin(drawn, self.eos_ids) & ~ended[rows]
            lengths[rows] = torch.where(stopping, step + 1, lengths[rows])
            ended[rows] |= stopping
            # Up to here the device is told what to do and never asked.
            if step % look == 0 or step + 1 == longest:
                check_finite(logps)
                if self.stops is not None:
                    going = rows[~ended[rows]]
                    tails = tokens[going, max(0, step + 1 - self.stops.window) : step + 1].tolist()
                    stops = going[self.stops.ended(tails)] if tails else going
                    ended[stops], lengths[stops] = True, step + 1
                alive = (~ended[rows]).nonzero()[:, 0]
                if self.watch is not None and len(requests) == 1:
                    self.watch(tokens[0, : min(step + 1, int(lengths[0]))])
                report(len(requests) - len(alive), len(alive) * (longest - step - 1))
                if not len(alive) or step + 1 == longest:
                    break
                if len(alive) <= read.crowd * len(rows):
                    kept, moved = close_ranks(alive)
                    read.keep(kept, moved)
                    rows, drawn = rows[kept], drawn[kept]
                    said = None if said is None else said[kept]
            logits = read.add(drawn)
        return [
            Generation(tuple(ids[:length]), logp, "stop" if stopped else "length")
            for ids, length, logp, stopped in zip(
                tokens.tolist(), lengths.tolist(), logps.tolist(), ended.tolist(), strict=True
            )
        ]


class _StoppedError(Exception):
    """The end of a group that is not needed any more."""


class _Tally:
    """Count of the completions that have ended, over groups that are written side by side."""

    def __init__(self, tokens: Sequence[int], report: Report) -> None:
        self.whole, self.left, self.ended = sum(tokens), list(tokens), [0] * len(tokens)
        self.report, self.lock = report, threading.Lock()

    def tell(self, group: int, ended: int, left: int) -> None:
        """Report the sums, in which `group` counts `ended` completions and `left` tokens from now on."""
        with self.lock:
            self.ended[group], self.left[group] = ended, left
            self.report(sum(self.ended), 1 - sum(self.left) / self.whole)


def close_ranks(alive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows `alive` (n,), ascending, in an order in which those before n keep their places.

    Returns it, (n,), and the places that rows from n on take.
    """
    count = len(alive)
    stay = alive < count
    taken = torch.zeros(count, dtype=torch.bool, device=alive.device)
    taken[alive[stay]] = True
    moved = (~taken).nonzero()[:, 0]
    kept = torch.arange(count, device=alive.device)
    kept[moved] = alive[~stay]
    return kept, moved


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
        logprobs = some.float().log_softmax(dim=-1)
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
    parts = functional.pad(odds, (0, -odds.shape[1] % _SEARCHED)).view(len(odds), -1, _SEARCHED)
    cumulative = parts.sum(dim=-1).cumsum(dim=-1)
    passed = numbers[:, None] * cumulative[:, -1:]
    part = _first_above(cumulative, passed)
    before = functional.pad(cumulative, (1, 0)).gather(1, part)
    inside = parts.gather(1, part[:, :, None].expand(-1, 1, _SEARCHED))[:, 0].cumsum(dim=-1)
    found = part * _SEARCHED + _first_above(inside, passed - before)
    return found[:, 0].clamp(
        max=logprobs.shape[1] - 1
    )  # what fills up the last part is drawn without numbers alone


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
