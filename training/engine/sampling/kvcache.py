"""The cache of keys and values, and attention of one new token a row to it.

transformers' dynamic cache copies everything it holds at each token, and its attention takes a kernel meant for
many queries. Both cost more than the rest of a step of a small model.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ONE_QUERY = "whetstone_one_query"
ALIGNED = 16  # a multiple of this many columns is what kernels with a mask are fast with
_GROWTH = 64  # columns by which a cache is enlarged: each time is a copy of it


class InPlaceLayer(CacheLayerMixin):
    """Keys and values of one attention layer, (rows, heads, columns, size), in memory that is written in place.

    transformers' own dynamic cache copies everything it holds at each token. A layer with a sliding window
    keeps all columns too; the mask that transformers makes for it hides the old ones.
    """

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the first keys and values, those of the prompts, as the cache."""
        self.keys, self.values = key_states, value_states
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns and return all columns so far, as views."""
        before, self.length = self.length, self.length + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        if self.length > self.keys.shape[2]:
            self.keys, self.values = (
                _widened(one, self.length + _GROWTH) for one in (self.keys, self.values)
            )
        self.keys[:, :, before : self.length] = key_states
        self.values[:, :, before : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the rows `beam_idx` (n,), in this order; a row may come more than once."""
        self.keys, self.values = (one.index_select(0, beam_idx) for one in (self.keys, self.values))

    def join(self, others: Sequence["InPlaceLayer"], width: int) -> None:
        """Take in the rows of other layers, each padded on the left to `width` columns."""
        layers = [self, *others]
        self.keys, self.values = (
            torch.cat([functional.pad(columns, (0, 0, width - columns.shape[2], 0)) for columns in parts])
            for parts in ([layer.keys for layer in layers], [layer.values for layer in layers])
        )
        self.length = width

    def keep(self, kept: torch.Tensor, moved: torch.Tensor) -> None:
        """Keep the rows `kept` (n,), of which only those at `moved` come from another place, at n or after it."""
        for one in (self.keys, self.values):
            one[moved] = one[kept[moved]]
        self.keys, self.values = self.keys[: len(kept)], self.values[: len(kept)]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns that a query of this length attends to, and the place of the first."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of columns written so far."""
        return self.length

    def get_max_length(self) -> int:
        """Return -1, which means no maximum to transformers."""
        return -1


class FixedLayer(InPlaceLayer):
    """Keys and values in memory of a fixed size, whose next column `place` (1,) names on the device.

    All columns are returned at each token, so that the same kernels serve every token; a mask must hide those to come.
    """

    def __init__(self, layer: InPlaceLayer, columns: int, place: torch.Tensor) -> None:
        """Take over the columns of `layer`, which is not usable any more."""
        super().__init__()
        self.place, self.length, self.is_initialized = place, columns, True
        self.keys, self.values = (
            functional.pad(one[:, :, : layer.length], (0, 0, 0, columns - layer.length))
            for one in (layer.keys, layer.values)
        )
        del layer.keys, layer.values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one column and return all."""
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values


def sees_all(config: Any, length: int) -> bool:
    """Return whether every layer sees all of `length` columns."""
    layers = DynamicCache(config=config).layers
    return all(getattr(layer, "sliding_window", length) >= length for layer in layers)


def can_join(config: Any) -> bool:
    """Return whether caches for this model are written in place, so that they can be joined."""
    layers = DynamicCache(config=config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def make_cache(config: Any) -> Cache:
    """Return a cache written in place; for layers that hold something else than keys and values, transformers' own."""
    usual = DynamicCache(config=config)
    return Cache(layers=[InPlaceLayer() for _ in usual.layers]) if can_join(config) else usual


def join(caches: Sequence[Cache], width: int) -> Cache:
    """Return one cache of the rows of all, written in place, each padded on the left to `width` columns."""
    if len(caches) == 1:
        return caches[0]
    for layer, *others in zip(*(cache.layers for cache in caches), strict=True):
        layer.join(others, width)
    return caches[0]


def keep_rows(cache: Cache, kept: torch.Tensor, moved: torch.Tensor) -> None:
    """Let a cache hold the rows `kept` (n,) only; of its own layers' rows just those at `moved` are copied."""
    for layer in cache.layers:
        if isinstance(layer, InPlaceLayer):
            layer.keep(kept, moved)
        else:
            layer.reorder_cache(kept)


def one_query_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention of one token a row as two batched products; anything else goes to the usual kernel.

    On a GPU of the kind of an H100 one kernel of the library takes half as long as they do.

    `query` is (R, heads, 1, size), `key` and `value` are (R, key heads, T, size), the mask is (R, 1, 1, T), True
    where a column is seen; returns (R, 1, heads, size).
    """
    rows, heads, queries, size = query.shape
    usual = attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1)
    if queries != 1 or not usual or any(settings.get(name) is not None for name in _UNUSUAL):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **settings)
    if _has_grouped_kernel(key):
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
        )
        return attended.transpose(1, 2), None
    groups, columns = rows * key.shape[1], key.shape[2]
    scale = size**-0.5 if scaling is None else scaling
    scores = torch.bmm(
        query.reshape(groups, -1, size), key.reshape(groups, columns, size).transpose(1, 2)
    ).mul_(scale)
    if attention_mask is not None:
        scores.view(rows, -1, columns).masked_fill_(~attention_mask[:, 0], -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    attended = torch.bmm(weights, value.reshape(groups, columns, -1))
    return attended.view(rows, 1, heads, -1), None


_UNUSUAL = ("position_bias", "s_aux", "softcap")


def _has_grouped_kernel(key: torch.Tensor) -> bool:
    """Return whether one kernel lets the query heads share these keys (R, key heads, T, size) as they are.

    Elsewhere the library would repeat them for each query head first.
    """
    is_half = key.is_cuda and key.dtype != torch.float32
    return is_half and key.shape[2] % ALIGNED == 0 and torch.cuda.get_device_capability(key.device) >= (9, 0)


def _widened(columns: torch.Tensor, length: int) -> torch.Tensor:
    """Return `columns` (R, H, T, D) in new memory with room for `length` columns."""
    rows, heads, width, size = columns.shape
    wider = columns.new_empty(rows, heads, length, size)
    wider[:, :, :width] = columns
    return wider


AttentionInterface.register(ONE_QUERY, one_query_attention)
AttentionMaskInterface.register(ONE_QUERY, sdpa_mask)
