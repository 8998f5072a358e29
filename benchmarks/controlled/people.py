"""Simulated annotators: Bradley-Terry between two rewards, a tie where they are equal, and spammers."""

import math
import random
from dataclasses import dataclass

SHARPNESS = 4.0  # as in `training.demo.simulation`


@dataclass(frozen=True)
class Person:
    """One who judges. A spammer prefers either completion with the same chance, whatever they are worth."""

    name: str
    sharpness: float = SHARPNESS
    spams: bool = False

    def judge(self, difference: float, rng: random.Random) -> str:
        """Return "first", "second" or "tie" where the first completion is worth `difference` more.

        The better one is preferred with the chance sigmoid(sharpness * difference) (Bradley and Terry, 1952).
        """
        if self.spams:
            return rng.choice(("first", "second"))
        if difference == 0:
            return "tie"
        return "first" if rng.random() < prefers_first(difference, self.sharpness) else "second"


def prefers_first(difference: float, sharpness: float = SHARPNESS) -> float:
    """Return the chance that the first completion is preferred, 1/2 where both are worth the same."""
    return 1 / (1 + math.exp(-sharpness * difference))


HONEST = (Person("ada"), Person("ben"))
