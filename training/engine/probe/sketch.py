"""A sketch of the tokens that a completion is made of: their shares, projected on random signs (Achlioptas, 2003).

The sketches of two completions are about as far apart as their shares of each token are, in a few hundred numbers for
any vocabulary. A token's signs come from a hash of its id (SplitMix64), so that nothing is stored, and they are the
same on every machine.
"""

import torch

_BITS = 64


def sketch_tokens(ids: torch.Tensor, size: int) -> torch.Tensor:
    """Return the mean of the signs of `ids` (T,), float32 (size,); 0 of no token."""
    if not len(ids):
        return torch.zeros(size)
    return signs_of(ids, size).float().mean(dim=0)


def signs_of(ids: torch.Tensor, size: int) -> torch.Tensor:
    """Return 1 or -1 for each of `ids` (T,) and each number of the sketch: (T, size), int8."""
    words = -(-size // _BITS)
    state = ids.long()[:, None] * words + torch.arange(1, words + 1)
    bits = _hash(state)[:, :, None] >> torch.arange(_BITS) & 1
    return (2 * bits - 1).to(torch.int8).flatten(1)[:, :size]


def _hash(state: torch.Tensor) -> torch.Tensor:
    """Return the SplitMix64 of numbers: 64 bits that look independent for any two (Steele, Lea and Flood, 2014)."""
    mixed = state * _signed(0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(0x94D049BB133111EB)
    return mixed ^ _shifted(mixed, 31)


def _signed(number: int) -> int:
    """Return the 64-bit number as PyTorch's integers have it."""
    return number - (1 << _BITS) if number >= 1 << (_BITS - 1) else number


def _shifted(numbers: torch.Tensor, by: int) -> torch.Tensor:
    """Return numbers moved to the right with zeros from the left."""
    return numbers >> by & ((1 << (_BITS - by)) - 1)
