"""The levels of a project's gates: how its chance of a false promotion is spent over its life."""

import math

# The chance that a project ever promotes a policy that is not better, as long as it promotes what is called better.
LIFETIME_LEVEL = 0.05
WORSE_LEVEL = 0.05  # of a single gate: a policy that is called worse is not promoted, so nothing adds up
UNPLANNED_LEVEL = 0.025  # of gates older than levels: one side of the interval that they had


def level_of(number: int, handed_on: float = 0.0) -> float:
    """Return the level of a project's `number`-th gate, from 1 on.

    It is 6 / (pi number)² of LIFETIME_LEVEL, and `handed_on`: the level of the gate before it, if that one called
    its policy better. Under this online fallback procedure (Tian and Ramdas 2021, 1910.04900) the chance of any
    false "better" in the project's life is at most LIFETIME_LEVEL, however many rounds it has.
    """
    return LIFETIME_LEVEL * 6 / (math.pi * number) ** 2 + handed_on
