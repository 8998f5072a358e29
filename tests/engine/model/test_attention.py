"""The layout for kernels of sequences of differing lengths, on a CPU stand-in for the kernel."""

import random

import pytest
import torch
from torch.nn import functional

from training.engine.data.packing import Span
from training.engine.model import attention
from training.engine.model.attention import VarlenLayout, packed_attention

SPANS = (Span(5, 4, 0), Span(3, 0, 2), Span(1, 6, 3))


def stand_in_kernel(query, key, value, starts_query, starts_key, longest_query, longest_key, **how):
    """Compute torch.nn.attention.varlen.varlen_attn: (T, heads, size), each sequence on its own.

    Causal from the bottom right, as flash attention aligns it; window_size (left, 0) counts keys before a token.
    """
    left, (size,) = how["window_size"][0], {one.shape[-1] for one in (query, key, value)}
    assert size % 8 == 0
    found = []
    bounds = zip(starts_query, starts_query[1:], starts_key, starts_key[1:], strict=False)
    for first, last, from_key, to_key in bounds:
        fed, seen = int(last - first), int(to_key - from_key)
        assert 0 < fed <= longest_query  # the backward pass of keys without a query is the kernel's secret
        assert seen <= longest_key
        place = torch.arange(seen - fed, seen)[:, None]
        other = torch.arange(seen)[None]
        visible = (other <= place) & ((other >= place - left) if left >= 0 else True)
        heads = [
            one.transpose(0, 1) for one in (query[first:last], key[from_key:to_key], value[from_key:to_key])
        ]
        repeats = heads[0].shape[0] // heads[1].shape[0]
        keys, values = (one.repeat_interleave(repeats, 0) for one in heads[1:])
        attended = functional.scaled_dot_product_attention(
            heads[0], keys, values, attn_mask=visible, scale=how["scale"]
        )
        found.append(attended.transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize(("size", "value_size"), [(8, 8), (12, 12), (4, 4), (24, 16), (6, 10)])
@pytest.mark.parametrize("window", [None, 3])
def test_the_kernel_call_equals_the_pairwise_form(
    window: int | None, size: int, value_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    total = sum(span.prompt + span.chosen + span.rejected for span in SPANS)
    query = torch.randn(1, 4, total, size, requires_grad=True)
    key, value = (torch.randn(1, 2, total, one, requires_grad=True) for one in (size, value_size))
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in_kernel)
    kind = attention.Kind(0.3, window, None)
    ours = attention._flash(query, key, value, SPANS, kind)
    expected, _ = packed_attention(
        torch.nn.Module(), query, key, value, None, spans=SPANS, scaling=0.3, sliding_window=window
    )
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(expected)
    for one in (query, key, value):
        slopes = [
            torch.autograd.grad((form * weights).sum(), one, retain_graph=True)[0]
            for form in (ours, expected)
        ]
        torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("spans", [SPANS, (Span(2, 3, 0), Span(4, 1, 0))], ids=["mixed", "no rejected"])
@pytest.mark.parametrize("window", [None, 3])
def test_short_pairs_side_by_side_attend_as_they_do_one_by_one(
    window: int | None, spans: tuple[Span, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    total = sum(span.prompt + span.chosen + span.rejected for span in spans)
    inputs = [torch.randn(1, heads, total, 8, requires_grad=True) for heads in (4, 2, 2)]
    weights = torch.randn(1, total, 4, 8)
    forms = []
    for short in (256, 0):
        monkeypatch.setattr(attention, "_SHORT", short)
        attended, _ = packed_attention(
            torch.nn.Module(), *inputs, None, spans=spans, scaling=0.3, sliding_window=window
        )
        forms.append((attended, *torch.autograd.grad((attended * weights).sum(), inputs)))
        assert ("_PaddedAttention" in _names(attended.grad_fn)) == bool(short)
    for padded, one_by_one in zip(*forms, strict=True):
        torch.testing.assert_close(padded, one_by_one)


def _names(node: object) -> str:
    """Return the names of an autograd graph's first few nodes."""
    found = []
    for _ in range(6):
        if node is None:
            break
        found.append(type(node).__name__)
        node = node.next_functions[0][0] if node.next_functions else None
    return " ".join(found)


@pytest.mark.parametrize("window", [None, 3])
def test_bfloat16_gradients_on_a_cpu_are_rounded_float32_ones(window: int | None) -> None:
    torch.manual_seed(0)
    total = sum(span.prompt + span.chosen + span.rejected for span in SPANS)
    exact = [torch.randn(1, heads, total, 8).bfloat16().float() for heads in (4, 2, 2)]
    weights = torch.randn(1, total, 4, 8)
    slopes = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [one.to(dtype).requires_grad_() for one in exact]
        attended, _ = packed_attention(
            torch.nn.Module(), *inputs, None, spans=SPANS, scaling=0.3, sliding_window=window
        )
        slopes.append(torch.autograd.grad((attended.float() * weights).sum(), inputs))
    for wide, narrow in zip(*slopes, strict=True):
        assert narrow.dtype == torch.bfloat16
        assert (wide - narrow).norm() < 2e-2 * wide.norm()


@pytest.mark.parametrize(
    ("fed", "seen", "window"),
    [
        (40, 40, None),
        (33, 33, 7),
        (5, 45, None),
        (32, 64, 9),
        (600, 600, None),
        (300, 700, 90),
    ],
)
def test_gradients_of_filled_attention_are_exact(
    fed: int, seen: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, where nothing is rounded."""
    torch.manual_seed(0)
    monkeypatch.setattr(attention, "row_multiple", lambda *_: 32)
    kind = attention.Kind(0.3, window, None)
    inputs = [torch.randn(1, 2, count, 8, requires_grad=True) for count in (fed, seen, seen)]
    weights = torch.randn(1, 2, fed, 8)
    slopes = [
        torch.autograd.grad((form(*inputs, kind) * weights).sum(), inputs)
        for form in (attention._Attention.apply, attention._scaled_dot_product)
    ]
    for ours, exact in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, exact)


def test_the_layout_puts_each_prompt_before_both_completions() -> None:
    layout = VarlenLayout((Span(2, 1, 2), Span(1, 0, 1)), torch.device("cpu"))
    # tokens: p0 p1 c2 r3 r4 | p5 r6
    assert layout.gather.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 5, 6]
    assert layout.starts_query.tolist() == [0, 3, 5, 6, 7]
    assert layout.starts_key.tolist() == [0, 3, 7, 8, 10]
    assert (layout.longest_query, layout.longest_key) == (3, 4)
    rating = VarlenLayout((Span(2, 1, 0), Span(1, 0, 1)), torch.device("cpu"))
    assert rating.gather.tolist() == [0, 1, 2, 3, 3, 4]
    assert rating.starts_query.tolist() == [0, 3, 4, 5]
    assert rating.starts_key.tolist() == [0, 3, 4, 6]


@pytest.mark.parametrize(
    "unsupported", [{"s_aux": torch.ones(4)}, {"position_bias": torch.ones(1)}, {"dropout": 0.1}]
)
def test_what_cannot_be_packed_is_refused(unsupported: dict) -> None:
    one = torch.randn(1, 4, 3, 8)
    with pytest.raises(NotImplementedError):
        packed_attention(torch.nn.Module(), one, one, one, None, spans=(Span(1, 1, 1),), **unsupported)


def test_rows_are_filled_evenly_and_keep_to_the_budget() -> None:
    from training.engine.data.packing import distribute

    rng = random.Random(0)
    for _ in range(200):
        costs = [rng.randint(1, 50) for _ in range(rng.randint(1, 40))]
        budget, at_least = rng.randint(10, 120), rng.randint(1, 4)
        groups = distribute(costs, budget, min(at_least, len(costs)))
        assert sorted(item for group in groups for item in group) == list(range(len(costs)))
        assert len(groups) >= min(at_least, len(costs))
        assert all(sum(costs[item] for item in group) <= budget or len(group) == 1 for group in groups)
