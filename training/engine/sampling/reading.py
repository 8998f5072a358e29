"""The rows that a model has read so far, and the ways to let it read one token more.

The usual way feeds prompts of like length side by side, padded on the left, and keeps what each layer needs of
them. On a GPU its steps are recorded. If padding would leak into what is kept, as into the state of a recurrent layer,
prompts of differing length are kept apart. If nothing can be kept, each row is read from its beginning at every token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from transformers import Cache

from training.engine.model.forwards import ForwardArguments
from training.engine.model.longrope import Sides
from training.engine.sampling.kvcache import can_join, join, keep_rows, make_cache, sees_all
from training.engine.sampling.recording import RecordedRows

_PROMPTS = 64  # that are fed at once, at the most
# Their tokens: what a forward computes of them is in memory together.
_FED = {
    "cpu": 1 << 12,
    "cuda": 1 << 17,
}
# What a forward calls the cache: that of a model that is recurrent alone has another name.
_STATE = "cache_params"
_CACHES = ("past_key_values", _STATE)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to read rows."""

    name: str
    swift: bool = False  # by our own attention of one token
    padded: bool = False  # prompts of differing length side by side
    cached: bool = True
    recorded: bool = False  # by kernels that are started at once


# From the fastest on.
WAYS = (
    Way("by recorded steps", swift=True, padded=True, recorded=True),
    Way("step by step", swift=True, padded=True),
    Way("by the library's attention", padded=True),
    Way("apart for each length of prompt"),
    Way("without a cache", cached=False),
)


def ways_for(device: torch.device) -> tuple[Way, ...]:
    """Return the ways that are of use on a device: only a GPU can record."""
    return WAYS if device.type == "cuda" else tuple(way for way in WAYS if not way.recorded)


class ReadRows(Protocol):
    """Rows that a model has read so far."""

    crowd: float  # when no more than this share of the rows is still writing, the others should leave
    look: int  # tokens after which to see whether rows have ended

    def add(self, tokens: torch.Tensor) -> torch.Tensor:
        """Let each row read one token (R,) more. Returns the logits (R, V) of the next."""
        ...

    def keep(self, kept: torch.Tensor, moved: torch.Tensor) -> None:
        """Go on with the rows `kept` (n,), of which only those at `moved` come from another place."""
        ...


class Reader:
    """The reader of one architecture, which feeds its forward as that wants it."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.device, self.sides = device, Sides(model.config)
        self._arguments = ForwardArguments(model)
        self._cache = next((name for name in _CACHES if name in self._arguments.names), None)
        # Of a prompt only the last position's logits are wanted: (P, 1, V) in place of (P, T, V).
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in self._arguments.names else {}

    def read(
        self, model: Any, prompts: Sequence[tuple[int, ...]], way: Way, new: int
    ) -> tuple[torch.Tensor, ReadRows]:
        """Let each row read its prompt. Returns the logits (R, V) of the first token to write, and the rows.

        A prompt of several rows is fed once. The rows will read at most `new` tokens more.
        """
        if not way.padded and len(set(map(len, prompts))) > 1:
            raise ValueError("prompts of differing length are not read together in this way")
        if not way.cached:
            whole = _RereadRows(self, model, torch.tensor(prompts, device=self.device))
            return whole.logits(), whole
        distinct = list(dict.fromkeys(prompts))
        at = {prompt: place for place, prompt in enumerate(distinct)}
        repeats = torch.tensor([at[prompt] for prompt in prompts], device=self.device)
        width = max(map(len, distinct))
        padded = [[0] * (width - len(one)) + list(one) for one in distinct]
        seen = [[0] * (width - len(one)) + [1] * len(one) for one in distinct]
        ids, mask = (torch.tensor(table, device=self.device) for table in (padded, seen))
        logits, cache = self.feed(model, ids, mask)
        cache.reorder_cache(repeats)
        plain = can_join(model.config) and not self.sides.limits
        if way.recorded and plain and sees_all(model.config, width + new):
            return logits[repeats], RecordedRows(partial(self.step, model), cache, mask[repeats], new)
        return logits[repeats], _CachedRows(self, model, cache, ids[repeats], mask[repeats])

    def feed(self, model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Cache]:
        """Feed rows (R, T), padded on the left where `mask` is 0. Returns their last logits (R, V) and the cache."""
        # Prompts come longest first: a few at a time are padded little.
        few = len(ids)
        if can_join(model.config):
            few = max(1, min(_PROMPTS, _FED[self.device.type] // ids.shape[1]))
        parts = []
        for part, shown in zip(ids.split(few), mask.split(few), strict=True):
            start = part.shape[1] - int(shown.sum(dim=1).max())
            some, seen = part[:, start:], shown[:, start:]
            places, cache = (seen.cumsum(dim=1) - 1).clamp(min=0), make_cache(model.config)
            logits = self.step(model, some, seen, places, cache, **self._last_only)
            parts.append((logits, cache))
        return torch.cat([logits for logits, _ in parts]), join([cache for _, cache in parts], ids.shape[1])

    def step(
        self,
        model: Any,
        ids: torch.Tensor,
        mask: torch.Tensor,
        places: torch.Tensor,
        cache: Cache,
        **settings: int,
    ) -> torch.Tensor:
        """Feed the newest tokens (R, n), at `places` (R, n), of rows whose every token `mask` (R, T) has.

        A mask (R, 1, n, T) says what each of them sees. Returns their last logits (R, V).
        """
        if self._cache is None:
            raise NotImplementedError("its forward takes no cache")
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": places, "use_cache": True}
        if self._cache == _STATE and ids.shape[1] < mask.shape[1]:
            # A state holds no padding, and its layers would take the mask for that of the tokens that are fed.
            del inputs["attention_mask"]
        logits: torch.Tensor = model(
            **self._arguments.accepted(inputs | {self._cache: cache} | settings),
        ).logits[:, -1]
        return logits

    def reread(self, model: Any, ids: torch.Tensor, last: int = 1) -> torch.Tensor:
        """Feed whole rows (R, T) of equal length, and nothing else. Returns the logits (R, last, V) of their ends."""
        inputs = {"input_ids": ids, "use_cache": False}
        if self._last_only:
            inputs["logits_to_keep"] = last
        logits: torch.Tensor = model(**self._arguments.accepted(inputs)).logits[:, -last:]
        return logits


class _CachedRows:
    """Rows of which the model keeps what it needs in a cache."""

    crowd, look = 0.92, 1

    def __init__(
        self, reader: Reader, model: Any, cache: Cache, ids: torch.Tensor, mask: torch.Tensor
    ) -> None:
        self.reader, self.model, self.cache, self.ids, self.mask = reader, model, cache, ids, mask
        self.places = mask.sum(dim=1)[:, None]  # of the next tokens
        self.rereads = bool(reader.sides.limits)

    def add(self, tokens: torch.Tensor) -> torch.Tensor:
        """Let each row read one token more."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        if self.rereads:
            self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
            if self.reader.sides.is_first(self.ids.shape[1]):  # what is in the cache was encoded otherwise
                logits, self.cache = self.reader.feed(self.model, self.ids, self.mask)
                self.places = self.places + 1
                return logits
        places, self.places = self.places, self.places + 1
        return self.reader.step(self.model, tokens[:, None], self.mask, places, self.cache)

    def keep(self, kept: torch.Tensor, moved: torch.Tensor) -> None:
        """Go on with some of the rows."""
        keep_rows(self.cache, kept, moved)
        self.mask, self.places = self.mask[kept], self.places[kept]
        if self.rereads:
            self.ids = self.ids[kept]


class _RereadRows:
    """Rows that are read from their beginning at every token."""

    crowd, look = 0.92, 1

    def __init__(self, reader: Reader, model: Any, ids: torch.Tensor) -> None:
        self.reader, self.model, self.ids = reader, model, ids

    def logits(self) -> torch.Tensor:
        """Return the logits (R, V) of the next token."""
        return self.reader.reread(self.model, self.ids)[:, -1]

    def add(self, tokens: torch.Tensor) -> torch.Tensor:
        """Let each row read one token more."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        return self.logits()

    def keep(self, kept: torch.Tensor, moved: torch.Tensor) -> None:
        """Go on with some of the rows."""
        self.ids = self.ids[kept]
