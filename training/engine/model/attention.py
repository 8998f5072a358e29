"""Attention inside a packed row, pair by pair: no token of another pair is ever looked at or paid for.

Registered with transformers under the name `PACKED`, so that any model whose attention goes through its
interface can be packed. The row's spans travel to it as the model's keyword argument `spans`.

Each pair is two attentions: prompt and chosen together, causal; and the rejected completion, whose keys are
the prompt's and its own. On CUDA in half precision all of them are one call of the flash kernel for sequences of
differing lengths; elsewhere they are scaled_dot_product_attention calls, or where all pairs are short, batched
products over the pairs side by side, padded: many small calls would cost more than what they compute.

Not supported, and left to the plain form by the start-up check: attention sinks, position biases, linear
attention and recurrent layers.
"""

import functools
import itertools
from collections.abc import Sequence
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import AttentionInterface

from training.engine.data.packing import Span, padding, row_multiple

PACKED = "whetstone_packed"
_FLASH_HEAD_SIZE, _FLASH_MULTIPLE = 256, 8
_QUERIES = 256  # whose gradients are computed at once on a CPU, over the keys that they see
_SHORT = 256  # tokens of a pair; above, the masked half of a padded square costs more than the calls do


class Kind(NamedTuple):
    """A layer's treatment of its attention scores."""

    scale: float
    window: int | None  # keys a token sees, itself included
    softcap: float | None  # Gemma 2: c * tanh(scores / c)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    spans: Sequence[Span],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention over one packed row.

    `query` is (1, heads, T, size), `key` and `value` are (1, key heads, T, size), as transformers passes them;
    returns (1, T, heads, size), by the size of values. `sliding_window` counts the keys a token sees, itself included.
    """
    if unused.get("s_aux") is not None or unused.get("position_bias") is not None or dropout:
        raise NotImplementedError("attention sinks, position biases and attention dropout cannot be packed")
    kind = Kind(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    if (
        query.is_cuda
        and query.dtype != torch.float32
        and softcap is None
        and max(query.shape[-1], value.shape[-1]) <= _FLASH_HEAD_SIZE
        and torch.cuda.get_device_capability(query.device) >= (8, 0)  # the kernel knows no older GPU
    ):
        return _flash(query, key, value, spans, kind), None
    if key.shape[1] != query.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(repeats, dim=1) for one in (key, value))
    padded = softcap is None and query.dtype == torch.float32 and len(spans) > 1
    if padded and max(span.prompt + span.chosen + span.rejected for span in spans) <= _SHORT:
        layout = _padded_layout(tuple(spans), sliding_window, query.device)
        attended = _PaddedAttention.apply(query[0], key[0], value[0], layout, kind.scale)
        return attended.transpose(0, 1).contiguous()[None], None
    sizes = [size for span in spans for size in (span.prompt + span.chosen, span.rejected)]
    # One split, whose backward is one concatenation; slices would each write a gradient of the whole row.
    parts = list(
        zip(query.split(sizes, dim=2), key.split(sizes, dim=2), value.split(sizes, dim=2), strict=True)
    )
    attended = []
    for span, first, second in zip(spans, parts[::2], parts[1::2], strict=True):
        attended.append(_attend(*first, kind))
        if span.rejected:
            keys = torch.cat([first[1][:, :, : span.prompt], second[1]], dim=2)
            values = torch.cat([first[2][:, :, : span.prompt], second[2]], dim=2)
            attended.append(_attend(second[0], keys, values, kind))
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Compute causal attention of the last queries of one sequence: (1, heads, Tq, size) over Tk >= Tq keys."""
    scale, window, softcap = kind
    if softcap is None:
        if query.dtype == torch.bfloat16 and not query.is_cuda and torch.is_grad_enabled():
            return _Attention.apply(query, key, value, kind)
        return _scaled_dot_product(query, key, value, kind)
    visible = _visible(query.shape[2], key.shape[2], window, query.device)
    scores = softcap * torch.tanh((query @ key.transpose(2, 3)) * (scale / softcap))
    weights = scores.float().masked_fill(~visible, float("-inf")).softmax(dim=-1)
    return weights.to(value.dtype) @ value


def _scaled_dot_product(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: Kind
) -> torch.Tensor:
    fed, seen = query.shape[2], key.shape[2]
    if fed == seen and (kind.window is None or kind.window >= seen):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=kind.scale)
    visible = _visible(fed, seen, kind.window, query.device)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=kind.scale)


def _visible(fed: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Return which of `seen` keys each of the last `fed` tokens sees: bool (fed, seen)."""
    place = torch.arange(seen - fed, seen, device=device)[:, None]
    other = torch.arange(seen, device=device)[None, :]
    visible = other <= place
    if window is not None:
        visible &= other > place - window
    return visible


class _Attention(torch.autograd.Function):
    """Attention in bfloat16 on a CPU, whose own backward takes several times as long as these products.

    Weights are recomputed in backward, so that nothing of size Tq x Tk is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: Kind
    ) -> torch.Tensor:
        """Compute `_attend`, (1, heads, Tq, size)."""
        ctx.save_for_backward(query, key, value)
        ctx.kind = kind
        return _scaled_dot_product(query, key, value, kind)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of query, key and value.

        Some queries are taken at a time, with the keys up to the last of them: later ones are not computed.
        """
        query, key, value = (one[0] for one in ctx.saved_tensors)
        before = key.shape[1] - query.shape[1]  # keys before the first query
        by_query = []
        by_key, by_value = (torch.zeros_like(one, dtype=torch.float32) for one in (key, value))
        for start in range(0, query.shape[1], _QUERIES):
            some = slice(start, start + _QUERIES)
            fed, grad = query[:, some], upstream[0][0][:, some]
            seen = slice(before + start + fed.shape[1])
            slopes = _slopes_of_some(fed, key[:, seen], value[:, seen], grad, ctx.kind)
            by_query.append(slopes[0])
            by_key[:, seen] += slopes[1]
            by_value[:, seen] += slopes[2]
        return (
            torch.cat(by_query, dim=1)[None],
            by_key.to(key.dtype)[None],
            by_value.to(value.dtype)[None],
            None,
        )


def _slopes_of_some(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, grad: torch.Tensor, kind: Kind
) -> tuple[torch.Tensor, ...]:
    """Return what the last queries (heads, Tq, size) of a sequence add to the gradients of query, key and value."""
    fed, seen = query.shape[1], key.shape[1]
    bias = _bias(_visible(fed, seen, kind.window, query.device), query.dtype)
    multiple = row_multiple(query.dtype, query.device)
    more_fed, more_seen = padding(fed, multiple), padding(seen, multiple)
    # What is added is seen by nothing but what is added, which has no gradient.
    bias = functional.pad(functional.pad(bias, (0, more_seen), value=-torch.inf), (0, 0, 0, more_fed))[None]
    query, grad = (functional.pad(one, (0, 0, 0, more_fed)) for one in (query, grad))
    key, value = (functional.pad(one, (0, 0, 0, more_seen)) for one in (key, value))
    weights = _weights(query, key, bias, kind.scale)
    slopes = _slopes(query, key, value, weights, grad=grad, scale=kind.scale)
    return tuple(slope[:, :count] for slope, count in zip(slopes, (fed, seen, seen), strict=True))


class _PaddedAttention(torch.autograd.Function):
    """Attention of a row of short pairs in float32, with its weights kept for the backward pass."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes the inputs by position
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: "PaddedLayout",
        scale: float,
    ) -> torch.Tensor:
        """Compute attention of a row; inputs and output are (heads, T, size)."""
        kept, attended = [], []
        for part in layout.parts:
            fed, keys, values = part.queries.take(query), part.keys.take(key), part.keys.take(value)
            weights = _weights(fed, keys, part.bias, scale)
            attended.append(torch.bmm(weights, values))
            kept += [fed, keys, values, weights]
        ctx.save_for_backward(*kept)
        ctx.layout, ctx.scale = layout, scale
        return layout.to_row(attended, layout.query_home)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of query, key and value."""
        layout, kept = ctx.layout, ctx.saved_tensors
        slopes = []
        for part, (query, key, value, weights) in zip(layout.parts, (kept[:4], kept[4:]), strict=True):
            grad = part.queries.take(upstream[0], zero=True)
            slopes.append(_slopes(query, key, value, weights, grad=grad, scale=ctx.scale))
        by_query, by_key, by_value = (list(both) for both in zip(*slopes, strict=True))
        row = layout.to_row(by_query, layout.query_home)
        return row, layout.to_row_of_keys(by_key), layout.to_row_of_keys(by_value), None, None


def _bias(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to scores, of the shape of `visible`: 0 where a key is seen, else minus infinity."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _weights(query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
    """Return weights (N, Tq, Tk) of (N, Tq, size) and (N, Tk, size); `bias` (B, Tq, Tk) is repeated over N."""
    scores = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
    scores.view(len(scores) // len(bias), *bias.shape).add_(bias)
    return scores.softmax(dim=-1)


def _slopes(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    weights: torch.Tensor,
    *,
    grad: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return gradients of query, key and value, given that of weights @ value; all (N, T, size)."""
    by_value = torch.bmm(weights.transpose(1, 2), grad)
    by_weight = torch.bmm(grad, value.transpose(1, 2))
    by_score = torch.ops.aten._softmax_backward_data(by_weight, weights, -1, weights.dtype)
    by_query = torch.bmm(by_score, key).mul_(scale)
    by_key = torch.bmm(by_score.transpose(1, 2), query).mul_(scale)
    return by_query, by_key, by_value


class _Slots:
    """Tokens of a row set out in B lines of equal width, with padding at their ends."""

    def __init__(self, lines: Sequence[Sequence[int]], device: torch.device) -> None:
        self.width = max(map(len, lines))
        padded = [[*line, *[-1] * (self.width - len(line))] for line in lines]
        tokens = torch.tensor(padded, dtype=torch.long, device=device)
        self.real = tokens >= 0  # (B, width)
        self.tokens = tokens.clamp(min=0).view(-1)  # padding repeats the row's first token

    def take(self, row: torch.Tensor, *, zero: bool = False) -> torch.Tensor:
        """Return (heads, T, size) as (heads * B, width, size), with `zero` 0 in padding."""
        taken = row.index_select(1, self.tokens)
        if zero:
            taken.mul_(self.real.view(-1, 1))
        return taken.view(len(row) * len(self.real), self.width, row.shape[2])


class _Part(NamedTuple):
    """One of the two attentions of every pair of a row."""

    queries: _Slots
    keys: _Slots
    bias: torch.Tensor  # (B, Tq, Tk), float32


class PaddedLayout:
    """Places of a row's tokens when its B pairs are side by side: prompts with chosen, and rejected completions.

    `window` counts the keys a token sees, itself included. Padding is seen by nothing but padding.
    """

    def __init__(self, spans: Sequence[Span], window: int | None, device: torch.device) -> None:
        prompts, first, second, start = [], [], [], 0
        for span in spans:
            ends = [*itertools.accumulate((span.prompt, span.chosen, span.rejected), initial=start)]
            prompts.append([*range(ends[0], ends[1])])
            first.append([*range(ends[0], ends[2])])
            second.append([*range(ends[2], ends[3])])
            start = ends[3]
        keys = [before + own for before, own in zip(prompts, second, strict=True)]
        self.parts = tuple(
            self._part(_Slots(fed, device), _Slots(seen, device), window)
            for fed, seen in ((first, first), (second, keys))
        )
        one, two = (part.queries for part in self.parts)
        self.query_home = _homes((one.tokens, one.real), (two.tokens, two.real))
        seen = self.parts[1].keys
        # Prompts, which the first part has too, come first in each line.
        lengths = torch.tensor([len(line) for line in prompts], device=device)[:, None]
        shared = torch.arange(seen.width, device=device) < lengths
        self.key_home = _homes((one.tokens, one.real), (seen.tokens, seen.real & ~shared))
        self.shared = shared.view(-1).nonzero()[:, 0]  # their slots among the second part's keys
        self.shared_tokens = seen.tokens[self.shared]

    @staticmethod
    def _part(queries: _Slots, keys: _Slots, window: int | None) -> _Part:
        """Make a part that is causal from the end: a pair's last query is at its last key."""
        behind = keys.real.sum(dim=1) - queries.real.sum(dim=1)  # (B,) keys before the first query
        device = behind.device
        place = behind[:, None, None] + torch.arange(queries.width, device=device)[:, None]
        other = torch.arange(keys.width, device=device)
        visible = (other <= place) & (True if window is None else other > place - window)
        visible |= ~queries.real[:, :, None]  # a query that sees nothing would have no softmax
        return _Part(queries, keys, _bias(visible, torch.float32))

    def to_row(self, parts: Sequence[torch.Tensor], home: torch.Tensor) -> torch.Tensor:
        """Return (heads * B, width, size) of both parts as (heads, T, size)."""
        pairs = len(self.parts[0].bias)
        slots = [part.view(len(part) // pairs, pairs * part.shape[1], part.shape[2]) for part in parts]
        return torch.cat(slots, dim=1).index_select(1, home)

    def to_row_of_keys(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Do the same for gradients by keys or values, where a prompt's token has one of each part."""
        row = self.to_row(parts, self.key_home)
        slots = parts[1].view(len(row), self.parts[1].keys.real.numel(), row.shape[2])
        return row.index_add_(1, self.shared_tokens, slots.index_select(1, self.shared))


def _homes(*parts: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the slot of each token of a row, counted through `parts` of (tokens, which of them to count)."""
    tokens = torch.cat([tokens for tokens, _ in parts])
    counted = torch.cat([which.reshape(-1) for _, which in parts]).nonzero()[:, 0]
    return counted[tokens[counted].argsort()]


@functools.lru_cache(maxsize=8)
def _padded_layout(spans: tuple[Span, ...], window: int | None, device: torch.device) -> PaddedLayout:
    """Return the layout of one row, made once for all layers."""
    return PaddedLayout(spans, window, device)


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: Sequence[Span], kind: Kind
) -> torch.Tensor:
    """Compute all attentions of a row in one kernel call. Returns (1, T, heads, size), by the size of values.

    The kernel takes one size for all, a multiple of 8. Zeros that fill up queries and keys change no score.
    """
    from torch.nn.attention.varlen import varlen_attn  # which brings the compiler along

    # Fewer key heads than query heads are taken without a word before PyTorch 2.12.
    grouped: Any = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
    layout = _layout(tuple(spans), query.device)
    size = max(query.shape[-1], value.shape[-1])
    size += padding(size, _FLASH_MULTIPLE)
    queries, keys, values = (_filled(one[0].transpose(0, 1), size) for one in (query, key, value))
    attended: torch.Tensor = varlen_attn(  # type: ignore[assignment]  # a pair only with return_aux
        queries,
        keys[layout.gather],
        values[layout.gather],
        layout.starts_query,
        layout.starts_key,
        layout.longest_query,
        layout.longest_key,
        scale=kind.scale,
        window_size=(-1 if kind.window is None else kind.window - 1, 0),
        **grouped,
    )
    return attended[None, ..., : value.shape[-1]].contiguous()


def _filled(heads: torch.Tensor, size: int) -> torch.Tensor:
    """Return (T, heads, N) with zeros up to (T, heads, size)."""
    missing = size - heads.shape[-1]
    return functional.pad(heads, (0, missing)) if missing else heads


class VarlenLayout:
    """Places of each attention's queries and keys, for kernels that take sequences of differing lengths.

    Queries are the row as it is, cut into [prompt + chosen], [rejected] per pair; keys are gathered into
    [prompt + chosen], [prompt + rejected]. Both end at the same token, which is how such kernels align a
    causal mask when there are more keys than queries.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        queries, keys, gather, start = [0], [0], [], 0
        for span in spans:
            first = span.prompt + span.chosen
            gather.append(range(start, start + first))
            queries.append(queries[-1] + first)
            keys.append(keys[-1] + first)
            if span.rejected:  # not of a rating: keys without a query would have no gradient to write
                gather += [range(start, start + span.prompt)]
                gather.append(range(start + first, start + first + span.rejected))
                queries.append(queries[-1] + span.rejected)
                keys.append(keys[-1] + span.prompt + span.rejected)
            start += first + span.rejected
        self.gather = torch.tensor([place for part in gather for place in part], device=device)
        self.starts_query = torch.tensor(queries, dtype=torch.int32, device=device)
        self.starts_key = torch.tensor(keys, dtype=torch.int32, device=device)
        self.longest_query = max(after - before for before, after in itertools.pairwise(queries))
        self.longest_key = max(after - before for before, after in itertools.pairwise(keys))


@functools.lru_cache(maxsize=8)
def _layout(spans: tuple[Span, ...], device: torch.device) -> VarlenLayout:
    """Return the layout of one row, made once for all layers."""
    return VarlenLayout(spans, device)


AttentionInterface.register(PACKED, packed_attention)
