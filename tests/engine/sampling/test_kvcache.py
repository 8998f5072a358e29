"""Attention of one new token a row, whatever mask an architecture makes, is the library's."""

from types import SimpleNamespace

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.engine.sampling.kvcache import one_query_attention

ROWS, HEADS, COLUMNS, SIZE = 3, 4, 7, 8
SEEN = torch.rand(ROWS, HEADS, 1, COLUMNS, generator=torch.Generator().manual_seed(1)) < 0.7
SEEN[..., 0] = True
MASKS = {
    "none": None,
    "of the row": SEEN[:, :1],
    "of each head": SEEN,  # sparse attention
    "added to scores": torch.zeros(SEEN.shape).masked_fill(~SEEN, -3.0),
}


@pytest.mark.parametrize("kind", MASKS)
def test_one_query_sees_what_its_mask_shows(kind: str) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(ROWS, HEADS, count, SIZE) for count in (1, COLUMNS, COLUMNS))
    module = SimpleNamespace(is_causal=True)
    ours, theirs = (
        attend(module, query, key, value, MASKS[kind])[0]
        for attend in (one_query_attention, sdpa_attention_forward)
    )
    torch.testing.assert_close(ours, theirs)
