"""Tokens drawn from logits: as often as their probability says, by one number a row."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from transformers.generation import logits_process

from training.engine.config import SamplingConfig
from training.engine.errors import ModelError
from training.engine.sampling import drawing
from training.engine.sampling.drawing import _nucleus, check_finite, draw, uniforms


@pytest.mark.parametrize("vocabulary", [300, 20_000])
@pytest.mark.parametrize(
    "settings",
    [{}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"temperature": 0}, {"repetition_penalty": 1.3}],
)
def test_a_damaged_row_is_told_and_leaves_others_alone(vocabulary: int, settings: dict) -> None:
    torch.manual_seed(0)
    logits, numbers = torch.randn(3, vocabulary), torch.tensor([0.2, 0.5, 0.999])
    said = torch.zeros_like(logits, dtype=torch.bool)
    whole, logps = draw(logits, numbers, SamplingConfig(**settings), said)
    logits[1, 7] = torch.nan
    ids, damaged = draw(logits, numbers, SamplingConfig(**settings), said)
    assert ids[[0, 2]].tolist() == whole[[0, 2]].tolist()
    assert damaged.isnan().tolist() == [False, True, False]
    with pytest.raises(ModelError, match="not finite"):
        check_finite(damaged)
    check_finite(logps)


def drawn(
    logits: Sequence[float], count: int, said: torch.Tensor | None = None, **settings: object
) -> Counter[int]:
    """Count each token in `count` draws, each by the first number of a seed of its own, after the tokens `said`."""
    numbers = torch.cat([uniforms(seed, 1) for seed in range(count)])
    rows = torch.tensor([logits]).expand(count, -1)
    held = None
    if said is not None and "repetition_penalty" in settings:
        held = torch.zeros_like(rows, dtype=torch.bool)
        held[:, said[0]] = True
    ids, _ = draw(rows, numbers, SamplingConfig(**settings), held)
    return Counter(ids.tolist())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 6},
        {"temperature": 1.7, "top_p": 0.8},
        {"temperature": 1.3, "top_p": 0.95, "min_p": 0.2},
        {"repetition_penalty": 1.8, "temperature": 0.7},
    ],
)
def test_tokens_come_as_often_as_their_probability_says(settings: dict) -> None:
    """Pearson's chi-square, against transformers' own processors for what the settings leave."""
    logits = torch.randn(24, generator=torch.Generator().manual_seed(3)) * 1.5
    said = torch.tensor([[2, 5, 11]])
    penalty = logits_process.RepetitionPenaltyLogitsProcessor(settings.get("repetition_penalty", 1.0))
    kept = penalty(said, logits[None].clone()) / settings.get("temperature", 1.0)
    if "top_k" in settings:
        kept = logits_process.TopKLogitsWarper(settings["top_k"])(None, kept)
    if "top_p" in settings:
        kept = logits_process.TopPLogitsWarper(settings["top_p"])(None, kept)
    if "min_p" in settings:
        kept = logits_process.MinPLogitsWarper(settings["min_p"])(None, kept)
    expected = kept.softmax(dim=-1)[0].tolist()
    count = 20_000
    found = drawn(logits.tolist(), count, said=said, **settings)
    assert {token for token, share in enumerate(expected) if share == 0}.isdisjoint(found)
    cells = [(found[token], count * share) for token, share in enumerate(expected) if share]
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    freedom = len(cells) - 1
    # Wilson and Hilferty's approximation of the chi-square's upper 1e-4 point.
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3


def test_a_nucleus_is_that_of_the_whole_vocabulary_sorted() -> None:
    """Rows that end soon, rows of thousands of tokens, and equally likely tokens at the edge."""
    generator = torch.Generator().manual_seed(0)
    sharp, flat = (torch.randn(4, 5000, generator=generator) * scale for scale in (6.0, 0.1))
    even = torch.zeros(2, 5000)
    even[1, :7] = 3.0
    probabilities = torch.cat([sharp, flat, even, sharp]).softmax(dim=-1)
    for top_p in (0.001, 0.3, 0.9, 0.999):
        falling, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = falling.cumsum(dim=-1) - falling
        wanted = torch.zeros_like(falling).scatter(1, order, falling.masked_fill(before >= top_p, 0.0))
        assert torch.equal(_nucleus(probabilities, top_p), wanted)


def test_rows_draw_independently_of_each_other() -> None:
    """Tokens of neighbouring seeds, and of neighbouring steps, agree as often as chance has it."""
    numbers = torch.stack([uniforms(seed, 2) for seed in range(20_000)])
    assert abs(torch.corrcoef(numbers.T)[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack([numbers[:-1, 0], numbers[1:, 0]]))[0, 1]) < 0.03


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
def test_token_without_probability_is_never_drawn(number: float) -> None:
    for settings in ({}, {"top_p": 0.5}, {"temperature": 0.3, "top_k": 2}):
        logits = torch.tensor([[-torch.inf, 1.0, 1.0, -torch.inf, -torch.inf]])
        ids, logps = draw(logits, torch.tensor([number]), SamplingConfig(**settings))
        assert ids.item() in (1, 2)
        assert logps.item() == pytest.approx(math.log(0.5))


def test_temperature_zero_takes_the_likeliest_token() -> None:
    assert drawn([0.1, 0.3, 0.2], 50, temperature=0) == {1: 50}


def test_the_smallest_top_p_keeps_one_token() -> None:
    assert drawn([0.1, 0.3, 0.2], 50, top_p=1e-6) == {1: 50}


def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, numbers = torch.randn(9, 50, generator=torch.Generator().manual_seed(0)), uniforms(0, 9)
    whole = draw(logits, numbers, SamplingConfig(top_p=0.9))
    monkeypatch.setitem(drawing._ELEMENTS, "cpu", 100)
    parts = draw(logits, numbers, SamplingConfig(top_p=0.9))
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


@pytest.mark.parametrize("vocabulary", [20_001, 20_032, 20_480])  # in parts of 512 with a rest, 64, and 512
@pytest.mark.parametrize("settings", [{}, {"top_k": 50}, {"top_p": 0.7}, {"temperature": 0.5}])
def test_large_vocabulary_in_parts_gives_the_same_token(
    settings: dict, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    logits, numbers = 3 * torch.randn(300, vocabulary), torch.rand(300)
    numbers[:3] = torch.tensor([0.0, 1.0 - 2**-24, 0.5])
    found, logps = draw(logits, numbers, SamplingConfig(**settings))
    monkeypatch.setattr(drawing, "_LARGE_VOCABULARY", 1 << 20)
    expected, _ = draw(logits, numbers, SamplingConfig(**settings))
    assert int((found != expected).sum()) <= 1  # a number on the edge between two tokens
    assert bool(logps.isfinite().all())
