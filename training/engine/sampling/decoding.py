"""Writing completions with a causal language model: many rows at once, each as if it were alone.

A group of prompts of like length is fed once, left-padded; its keys and values are then repeated for every
completion that a prompt gets. Each step writes into the cache in place, and once some of the rows have ended they
leave the batch, and the last ones take their places. The log-probability of each token comes from the same
forward that it was drawn from.

A row draws its tokens by numbers of its own (`training.engine.sampling.drawing`). So a completion depends on its prompt
and seed and not on the rows beside it, up to rounding: matrix products of another shape differ in the last
float32 bits, which moves a token only where the number is within about 1e-6 of the edge between two.

On a CPU the products of a small model are too small to be shared by threads: there each thread writes a group of
its own.
"""

import copy
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from training.engine.config import SamplingConfig
from training.engine.errors import MemoryShortError, memory_short
from training.engine.model.forwards import AttentionChoice
from training.engine.model.longrope import Sides
from training.engine.model.threads import Crew, threads_apart
from training.engine.records import SamplingPrompt
from training.engine.sampling.drawing import check_finite, draw, tokens_said, uniforms
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
