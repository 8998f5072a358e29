"""The sketch of a completion's tokens keeps how far apart completions are, in few numbers."""

import itertools
import random

import pytest
import torch

from training.engine.probe.probing import standardize
from training.engine.probe.sketch import signs_of, sketch_tokens

VOCABULARY = 150_000


def shares_of(ids: torch.Tensor) -> torch.Tensor:
    return torch.bincount(ids, minlength=VOCABULARY) / len(ids)


def test_a_sketch_keeps_distances_of_token_shares() -> None:
    rng = random.Random(0)
    texts = [
        torch.tensor([rng.choice((rng.randrange(50), rng.randrange(VOCABULARY))) for _ in range(60)])
        for _ in range(8)
    ]
    for first, second in itertools.combinations(texts, 2):
        true = (shares_of(first) - shares_of(second)).norm()
        found = (sketch_tokens(first, 1024) - sketch_tokens(second, 1024)).norm() / 1024**0.5
        assert float(found / true) == pytest.approx(1, abs=0.15)  # 1 / sqrt(2 * 1024) is a deviation


def test_signs_of_neighbouring_tokens_are_independent_and_even() -> None:
    signs = signs_of(torch.arange(4000), 100).float()
    assert signs.shape == (4000, 100)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    correlations = torch.corrcoef(signs.T) - torch.eye(100)
    assert float(correlations.abs().max()) < 0.08  # five deviations
    assert abs(float(signs.mean())) < 0.01
    assert float((signs[1:] * signs[:-1]).mean()) == pytest.approx(0, abs=0.01)


def splitmix(state: int) -> int:
    """Return a number's hash by the paper's algorithm, with 64 bits of Python's integers."""
    mask = (1 << 64) - 1
    mixed = state * 0x9E3779B97F4A7C15 & mask
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return mixed ^ mixed >> 31


def test_signs_are_the_bits_of_a_hash_of_the_token() -> None:
    ids = [0, 1, 149_999]
    words = [[splitmix(2 * token + 1), splitmix(2 * token + 2)] for token in ids]
    expected = [[2 * (word[at // 64] >> at % 64 & 1) - 1 for at in range(100)] for word in words]
    assert signs_of(torch.tensor(ids), 100).tolist() == expected


def test_order_and_company_change_no_sketch_and_no_token_is_zero() -> None:
    ids = torch.tensor([5, 9, 9, 700])
    assert torch.equal(sketch_tokens(ids, 96), sketch_tokens(ids.flip(0), 96))
    assert torch.equal(sketch_tokens(ids[:0], 96), torch.zeros(96))


@pytest.mark.parametrize(("states", "tokens"), [(512, 256), (64, 256), (4096, 64)])
def test_a_sketch_varies_half_as_much_as_the_states(states: int, tokens: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(50, 2, states + tokens) * torch.rand(states + tokens) * 9
    units = standardize(features, tokens).apply(features.flatten(0, 1))
    assert float(units[:, states:].square().sum() / units[:, :states].square().sum()) == pytest.approx(0.5)
    assert torch.allclose(standardize(features[..., :states], 0).apply(features.flatten(0, 1)[:, :states]),
                          units[:, :states])  # fmt: skip


@pytest.mark.parametrize("words", [1, 2])
def test_a_token_that_is_new_counts_no_more_than_those_known(words: int) -> None:
    torch.manual_seed(0)
    known = torch.stack([sketch_tokens(torch.tensor([at % words]), 256) for at in range(40)])
    states = torch.randn(40, 512)
    standard = standardize(torch.cat([states, known], dim=1).view(20, 2, -1), 256)
    new = torch.cat([torch.randn(1, 512), sketch_tokens(torch.tensor([77]), 256)[None]], dim=1)
    units = standard.apply(new)[0]
    assert float(units[512:].square().sum() / units[:512].square().sum()) < 3
