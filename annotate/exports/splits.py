"""Rows divided into train, validation and test by their prompts, the same way however much data is added."""

import hashlib
from dataclasses import dataclass

from annotate.exports.shapes import prompt_as_text
from annotate.models import prompt_digest
from annotate.text.chats import Content

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The shares of prompts for validation and for test; what is left is for training.

    A prompt's place is drawn by a hash of its text and the salt alone, so that it stays where it is as data grows. A
    larger share takes prompts from training only. A plain prompt and a chat that says the same are one prompt.
    """

    validation: float = 0.0
    test: float = 0.0
    salt: str = ""

    def __bool__(self) -> bool:
        return self.validation > 0 or self.test > 0

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that may hold rows."""
        shares = {TRAIN: 1.0, VALIDATION: self.validation, TEST: self.test}
        return tuple(part for part in PARTS if shares[part] > 0)

    def part_of(self, prompt: Content) -> str:
        """Return the part that a prompt belongs to."""
        digest = prompt_digest(prompt_as_text(prompt))
        drawn = hashlib.sha256(f"{self.salt}\n{digest}".encode("utf-8", "surrogatepass")).digest()
        place = int.from_bytes(drawn[:8]) / 2**64
        if place < self.test:
            return TEST
        return VALIDATION if place >= 1 - self.validation else TRAIN
