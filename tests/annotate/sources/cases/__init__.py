"""Records of each format, small and of the shape that its authors write, with the candidates that they are.

A case is (name of the format, record, candidates).
"""

from collections.abc import Mapping
from typing import Any

from annotate.sources.candidates import Answer, Candidate, Message, Opinion

Case = tuple[str, Mapping[str, Any], list[Candidate]]

FIRST, SECOND, TIE = Opinion((1.0, 0.0)), Opinion((0.0, 1.0)), Opinion((0.5, 0.5))
BLUE_GREEN = (Answer("Blue."), Answer("Green."))


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


SKY = [user("Sky?")]


def pair(prompt: Any = "Sky?", opinion: Opinion = FIRST, **more: Any) -> Candidate:
    """Return the candidate of a prompt that was answered “Blue.” and “Green.”."""
    return Candidate(prompt, BLUE_GREEN, (opinion,), **more)
