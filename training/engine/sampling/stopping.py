"""Stop strings: where a completion ends, and the ids of what is left of it.

A string is looked for in the text, so it may begin and end anywhere inside tokens. The text before it is kept, and the
ids are those of that text: the drawn ids up to the token that the string begins in, and, if the token begins with text
that is kept, the ids of that piece. Where the tokenizer has no ids for the piece, it is given up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from training.engine.config import SamplingConfig
from training.engine.sampling.decoding import Generation
from training.engine.sampling.grouping import Request

_CONTEXT = 4  # tokens of the prompt that a completion is decoded after
_DECODING = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}


def stops_of(settings: SamplingConfig, tokenizer: Any) -> "StopStrings | None":
    """Return the stop strings of these settings, None if there are none."""
    return StopStrings(tokenizer, settings.stop) if settings.stop else None


class StopStrings:
    """The strings on which writing ends, for one tokenizer."""

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self.tokenizer, self.strings = tokenizer, strings
        # Each token is at least a byte of the text. A few more are those that are skipped.
        self.window = max(len(one.encode()) for one in strings) + 8

    def ended(self, tails: Sequence[Sequence[int]]) -> list[int]:
        """Return the positions of those of `tails`, last tokens of completions, whose text holds a stop string."""
        texts = self.tokenizer.batch_decode([list(ids) for ids in tails], **_DECODING)
        return [at for at, text in enumerate(texts) if self._find(text) is not None]

    def cut(self, request: Request, drawn: Generation, text: str) -> tuple[Generation, str]:
        """Return a completion and its text up to the first stop string; both as they are if there is none.

        The log-probability of one that was cut is not known: it is nan.
        """
        place = self._find(text)
        if place is None:
            return drawn, text
        wanted = text[:place]
        ids, kept = self._longest_within(request, drawn.token_ids, wanted)
        for piece in self._list_ids(wanted[len(kept) :]) if kept != wanted else ():
            longer = (*ids, *piece)
            if decode(self.tokenizer, [request], [replace(drawn, token_ids=longer)])[0] == wanted:
                ids, kept = longer, wanted
                break
        return Generation(ids, float("nan"), "stop"), kept

    def _list_ids(self, piece: str) -> Iterator[list[int]]:
        """Yield ids that may continue a text with `piece`: as they are alone, and as they are behind a line break.

        Alone, SentencePiece puts a blank before the first word.
        """
        anchor, joint, alone = self.tokenizer(
            ["\n", f"\n{piece}", piece], add_special_tokens=False, verbose=False
        )["input_ids"]
        yield alone
        if joint[: len(anchor)] == anchor:
            yield joint[len(anchor) :]

    def _find(self, text: str) -> int | None:
        places = [place for one in self.strings if (place := text.find(one)) >= 0]
        return min(places, default=None)

    def _longest_within(
        self, request: Request, ids: tuple[int, ...], wanted: str
    ) -> tuple[tuple[int, ...], str]:
        """Return the most of `ids` whose text `wanted` begins with, and that text."""
        for count in range(len(ids) - 1, 0, -1):
            (text,) = decode(self.tokenizer, [request], [Generation(ids[:count], 0.0, "stop")])
            if wanted.startswith(text):
                return ids[:count], text
        return (), ""


def decode(tokenizer: Any, requests: Sequence[Request], written: Sequence[Generation]) -> list[str]:
    """Return completions as the text that continues their prompts, without special tokens.

    Some tokenizers drop the space before a text's first word, so each is decoded behind the end of its prompt.
    """
    if not written:
        return []  # of which batch_decode would make one text
    before = [request.prompt[-_CONTEXT:] for request in requests]
    heads = tokenizer.batch_decode([list(ids) for ids in before], **_DECODING)
    wholes = tokenizer.batch_decode(
        [[*ids, *one.token_ids] for ids, one in zip(before, written, strict=True)], **_DECODING
    )
    return [whole.removeprefix(head) for head, whole in zip(heads, wholes, strict=True)]
