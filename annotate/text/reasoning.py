"""The reasoning in a model's text told apart from its answer, by the markers that chat templates use."""

from typing import NamedTuple

MARKERS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)


class Parts(NamedTuple):
    """A text in two parts. `is_whole` is false where the reasoning was cut off before its end."""

    reasoning: str
    answer: str
    is_whole: bool = True


def split_reasoning(text: str) -> Parts:
    """Return the reasoning at the beginning of `text`, without its markers, and the answer behind it.

    A template may have written the opening marker into the prompt: then the text begins inside the reasoning.
    """
    start = text.lstrip()
    for opening, closing in MARKERS:
        if start.startswith(opening):
            reasoning, end, answer = start[len(opening) :].partition(closing)
            return Parts(reasoning, answer, bool(end))
    for opening, closing in MARKERS:
        before, end, answer = text.partition(closing)
        if end and opening not in before:
            return Parts(before, answer)
    return Parts("", text)
