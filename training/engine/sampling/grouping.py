"""The completions that are written side by side: like lengths, within the memory for their keys and values."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.engine.config import SamplingConfig
from training.engine.machine.memory import free_memory

# Of the memory that is free once the model is there; the rest is for what a forward computes, and for others.
_SHARE = {"cpu": 1 / 4, "cuda": 1 / 2}


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to write: the prompt's ids, and the seed of this row's random numbers."""

    prompt: tuple[int, ...]
    seed: int


def make_groups(
    requests: Sequence[Request],
    most: int,
    threads: int = 1,
    company: Callable[[Request], Hashable] = lambda request: None,
    *,
    new: int = 0,
    tokens: int | None = None,
    widest: float = 1.5,
) -> list[list[int]]:
    """Return positions of `requests` in groups of at most `most`, as many for each thread.

    Like lengths are together, the longest prompts first, so that a memory too small is met at once; requests of one
    prompt stay side by side. Only those that `company` says the same of share a group. With `new` tokens to write
    for each, a group holds at most `tokens` in all, each row being as long as the longest, if it is not a single row.
    No row is more than `widest` times as long as it needs to be.
    """
    order = sorted(range(len(requests)), key=lambda at: (-len(requests[at].prompt), requests[at].prompt, at))
    kinds: dict[Hashable, list[int]] = {}
    for at in order:
        kinds.setdefault(company(requests[at]), []).append(at)
    groups = []
    for some in kinds.values():
        for alike, room in _runs([len(requests[at].prompt) + new for at in some], most, tokens, widest):
            rounds = -(-len(alike) // (room * threads)) or 1
            size = min(room, -(-len(alike) // (rounds * threads)) or 1)
            run = [some[place] for place in alike]
            groups += [run[start : start + size] for start in range(0, len(run), size)]
    return groups


def _runs(widths: list[int], most: int, tokens: int | None, ratio: float) -> Iterator[tuple[range, int]]:
    """Yield runs of falling widths that differ little, each with the rows that it may hold side by side."""
    start = 0
    while start < len(widths):
        widest, end = widths[start], start
        while end < len(widths) and widest <= ratio * widths[end]:
            end += 1
        room = most if tokens is None else max(1, min(most, tokens // max(1, widest)))
        yield range(start, end), room
        start = end


def tokens_at_once(model: Any, device: torch.device, settings: SamplingConfig) -> int | None:
    """Return how many tokens, prompts included, may be held side by side: as set, or by the memory that is free.

    None where the size of a token's keys and values is not known.
    """
    if settings.max_tokens is not None:
        return settings.max_tokens
    size = token_bytes(model)
    return int(free_memory(device) * _SHARE[device.type] / size) if size else None


def token_bytes(model: Any) -> int:
    """Return the bytes that the cache keeps of a token, in all layers; 0 if the configuration does not tell."""
    config = model.config.get_text_config()
    layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    if not layers or not heads:
        return 0
    pairs = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * layers * pairs * width * next(model.parameters()).element_size())
