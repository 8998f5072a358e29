"""The cut of a prompt that is too long: the middle of its longest turn goes first.

A prompt's parts are what lies between two control tokens: a turn, its header, or a whole plain prompt. The longest part
loses its middle until it is as long as the next longest, then both lose theirs, and so on. Nothing is put in the gap.
Control tokens stay, and so does what a chat says before its first turn: the system message and tools.
"""

from collections.abc import Iterator, Sequence

_LEAST = 16  # tokens that are left of a turn, before what was to stay is cut too


def cut_middle(
    ids: Sequence[int], room: int, *, control: frozenset[int], kept: Sequence[range] = (), first: int = 0
) -> tuple[int, ...]:
    """Return `ids` in exactly `room` tokens, or as they are if they fit.

    Tokens of `control` and those at `kept` stay while 16 tokens of every longer part do too. Otherwise only control
    tokens stay, and where even they are too many, the `first` tokens alone. The end of the last part always stays.
    """
    if len(ids) <= room:
        return tuple(ids)
    controls = {at for at, one in enumerate(ids) if one in control}
    beginning = set(range(first)) if room > first else set()
    instructed = {at for places in kept for at in places}
    for stays in (controls | beginning | instructed, controls | beginning):
        parts = list(_parts(len(ids), stays))
        spare = room - len(ids) + sum(map(len, parts))
        if spare >= sum(min(len(part), _LEAST) for part in parts):
            break
    else:
        stays, parts, spare = beginning, list(_parts(len(ids), beginning)), room - len(beginning)
    lost: set[int] = set()
    for part, left in zip(parts, _shares([len(part) for part in parts], spare), strict=True):
        head = left // 2
        lost.update(part[head : len(part) - (left - head)])
    return tuple(one for at, one in enumerate(ids) if at not in lost)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two sequences begin with alike."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return at
    return min(len(first), len(second))


def _parts(count: int, stays: set[int]) -> Iterator[range]:
    """Yield the runs of positions below `count` that are not in `stays`."""
    start = 0
    for at in (*sorted(stays), count):
        if at > start:
            yield range(start, at)
        start = at + 1


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Return how much is left of each length, `room` together: the longest are cut to one level."""
    low, high = 0, max(lengths, default=0)
    while low < high:
        level = (low + high + 1) // 2
        if sum(min(length, level) for length in lengths) <= room:
            low = level
        else:
            high = level - 1
    shares = [min(length, low) for length in lengths]
    rest = room - sum(shares)
    for at, length in enumerate(lengths):
        if rest and length > low:  # a token more than the level, for the first ones
            shares[at] += 1
            rest -= 1
    return shares
