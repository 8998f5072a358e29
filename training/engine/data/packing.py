"""Pairs to rows: the prompt once, then both completions, several pairs a row under a token budget.

A row of two pairs looks like this (p prompt, c chosen, r rejected; each completion's last token is predicted,
never fed):

    tokens     p p p c c r   p p c r r
    position   0 1 2 3 4 3   0 1 2 2 3

A token sees its own prompt, and its own completion up to itself; `training.engine.model.attention` sees to that
without ever forming the mask of the whole row. The prompt's last token predicts the first token of both.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.engine.data.tokens import EncodedPair

# On a CPU, each other number of rows in a product of half precision makes oneDNN compile kernels, and keep 2 to 10 MB
# of them. With texts of all lengths that would be gigabytes. So numbers of rows are multiples of this.
_MULTIPLE = 32
_FEW = 4  # multiples, below which each sequence would be filled by a good part of its length


def row_multiple(dtype: torch.dtype, device: torch.device) -> int:
    """Return what the number of rows of a matrix should be a multiple of."""
    return 1 if device.type != "cpu" or dtype == torch.float32 else _MULTIPLE


def padding(rows: int, multiple: int) -> int:
    """Return how many rows are missing to a multiple."""
    return -rows % multiple


def width_of(longest: int, multiple: int) -> int:
    """Return the width of padded sequences: a multiple, unless they are so short that most of it would be padding."""
    return longest + padding(longest, multiple) if longest >= _FEW * multiple else longest


@dataclass(frozen=True, slots=True)
class Span:
    """One pair's place in a row: lengths in tokens that are fed."""

    prompt: int
    chosen: int
    rejected: int


@dataclass(frozen=True, slots=True)
class PairRow:
    """The input and the targets of one forward. N is the number of completion tokens of its B pairs.

    Token i of the completions is predicted by the hidden state at `index[i]` of the flattened input. The first
    `lengths[0]` tokens belong to the first pair's chosen completion, the next `lengths[1]` to its rejected one, and so
    on.
    """

    pairs: tuple[int, ...]  # positions of its pairs in the list that was packed
    input_ids: torch.Tensor  # (1, T) packed, (2B, L) padded
    position_ids: torch.Tensor  # the same shape
    attention_mask: torch.Tensor | None  # (2B, L) padded, None packed
    spans: tuple[Span, ...] | None  # packed only
    alone: bool  # each sequence by a forward of its own, without its padding
    index: torch.Tensor  # (N,)
    targets: torch.Tensor  # (N,)
    lengths: torch.Tensor  # (2B,)

    @property
    def tokens(self) -> int:
        """Number of input tokens, padding included."""
        return self.input_ids.numel()

    def to(self, device: torch.device) -> "PairRow":
        """Return the same row with its tensors on `device`."""
        if device.type == "cpu":
            return self
        moved = {
            name: tensor.to(device, non_blocking=True)
            for name in ("input_ids", "position_ids", "attention_mask", "index", "targets", "lengths")
            if (tensor := getattr(self, name)) is not None
        }
        return PairRow(**{name: moved.get(name, getattr(self, name)) for name in self.__slots__})


def distribute(costs: Sequence[int], budget: int, at_least: int = 1) -> list[list[int]]:
    """Spread items over the fewest groups that keep to `budget`, evenly, and over `at_least` groups if it can.

    Longest first into the lightest group (Graham, 1969). An item above the budget gets a group of its own.
    Returns groups of positions in `costs`, each in ascending order; none is empty.
    """
    groups = max(at_least, -(-sum(costs) // budget))
    order = sorted(range(len(costs)), key=lambda item: (-costs[item], item))
    while True:
        members: list[list[int]] = [[] for _ in range(groups)]
        loads = [(0, group) for group in range(groups)]  # a heap: the lightest group first
        for item in order:
            load, group = loads[0]
            members[group].append(item)
            heapq.heapreplace(loads, (load + costs[item], group))
        if all(load <= budget or len(members[group]) == 1 for load, group in loads):
            return [sorted(group) for group in members if group]
        groups += 1


def pack(pairs: Sequence[EncodedPair], chosen_positions: Sequence[int], multiple: int = 1) -> PairRow:
    """Return one packed row of the pairs at `chosen_positions`.

    Its tokens are a multiple of `multiple`: what is missing is a span of its own, in which nothing is predicted.
    """
    tokens: list[int] = []
    places: list[int] = []
    index: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    spans = []
    for pair in (pairs[position] for position in chosen_positions):
        start, prompt = len(tokens), len(pair.prompt)
        tokens += pair.prompt
        places += range(prompt)
        for completion in (pair.chosen, pair.rejected):
            lengths.append(len(completion))
            if not completion:  # of a rating
                continue
            index.append(start + prompt - 1)
            index += range(len(tokens), len(tokens) + len(completion) - 1)
            tokens += completion[:-1]
            places += range(prompt, prompt + len(completion) - 1)
            targets += completion
        fed = (max(0, len(completion) - 1) for completion in (pair.chosen, pair.rejected))
        spans.append(Span(prompt, *fed))
    if missing := padding(len(tokens), multiple):
        tokens += [0] * missing
        places += range(missing)
        spans.append(Span(missing, 0, 0))
    return PairRow(
        pairs=tuple(chosen_positions),
        input_ids=torch.tensor([tokens]),
        position_ids=torch.tensor([places]),
        attention_mask=None,
        spans=tuple(spans),
        alone=False,
        index=torch.tensor(index),
        targets=torch.tensor(targets),
        lengths=torch.tensor(lengths),
    )


def pad(
    pairs: Sequence[EncodedPair], chosen_positions: Sequence[int], multiple: int = 1, *, alone: bool = False
) -> PairRow:
    """Return two sequences a pair, padded on the right to a multiple of `multiple`.

    One forward computes all of them, or with `alone` one forward each, without padding.
    """
    sequences = []
    for pair in (pairs[position] for position in chosen_positions):
        sequences += [(pair.prompt, pair.chosen), (pair.prompt, pair.rejected)]
    longest = max(len(prompt) + len(completion) - 1 for prompt, completion in sequences)
    width = width_of(longest, multiple)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    index: list[int] = []
    targets: list[int] = []
    for number, (prompt, completion) in enumerate(sequences):
        fed = [*prompt, *completion[:-1]]
        input_ids[number, : len(fed)] = torch.tensor(fed)
        mask[number, : len(fed)] = 1
        first = number * width + len(prompt) - 1
        index += range(first, first + len(completion))
        targets += completion
    return PairRow(
        pairs=tuple(chosen_positions),
        input_ids=input_ids,
        # A model may know no position after that of the longest sequence.
        position_ids=torch.arange(width).clamp(max=longest - 1).expand(len(sequences), width),
        attention_mask=mask,
        spans=None,
        alone=alone,
        index=torch.tensor(index),
        targets=torch.tensor(targets),
        lengths=torch.tensor([len(completion) for _, completion in sequences]),
    )
