"""The limits of what one record may become: rankings and trees of replies make far more of it than it holds.

All that a record becomes is in memory together, as it is taken as a whole or not at all.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.sources.candidates import Candidate, Opinion

PAIRS = 10_000  # of one record
BYTES = 16 * 1024 * 1024  # of all that they say, and of the prompts
PAIR_BYTES, OPINION_BYTES = 1_000, 200  # in memory, without texts


class AllowanceError(RefusalError):
    """A record that would become more than one record may."""


class Allowance:
    """The pairs and bytes that a record may still become. The texts of completions, which pairs share, are not counted.

    A first prompt with a pair costs nothing: neither is larger than the record.
    """

    def __init__(self) -> None:
        self._pairs, self._bytes = PAIRS, BYTES
        self._is_fresh = True

    def spend_prompt(self, candidate: Candidate) -> None:
        """Take a prompt that becomes an item. Raises AllowanceError."""
        if not self._is_first(1):
            self._spend(0, _size_of_prompt(candidate))

    def spend_pairs(self, candidate: Candidate, opinions: Sequence[Opinion], count: int) -> None:
        """Take so many pairs of a candidate, each with these opinions. Raises AllowanceError."""
        if self._is_first(count):
            return
        said = sum(
            OPINION_BYTES
            + _bytes(opinion.rationale)
            + _json_bytes(opinion.reasons)
            + _json_bytes(opinion.criteria)
            for opinion in opinions
        )
        of_answers = sorted(_json_bytes(answer.metadata) for answer in candidate.answers)[-2:]
        each = PAIR_BYTES + said + _json_bytes(candidate.metadata) + sum(of_answers)
        self._spend(count, count * each + _size_of_prompt(candidate))

    def _is_first(self, count: int) -> bool:
        is_first, self._is_fresh = self._is_fresh and count == 1, False
        return is_first

    def _spend(self, pairs: int, size: int) -> None:
        self._pairs -= pairs
        self._bytes -= size
        if self._pairs < 0:
            raise AllowanceError(
                _("It would become more than %(limit)s pairs, which is what one record may become.")
                % {"limit": f"{PAIRS:,}"}
            )
        if self._bytes < 0:
            raise AllowanceError(
                _("It would become more than %(limit)s MiB, which is what one record may become.")
                % {"limit": BYTES // 1024 // 1024}
            )


def _size_of_prompt(candidate: Candidate) -> int:
    prompt = candidate.prompt
    size = _bytes(prompt) if isinstance(prompt, str) else _json_bytes(prompt)
    return size + _json_bytes(candidate.prompt_metadata)


def _bytes(text: object) -> int:
    return len(str(text).encode("utf-8", "surrogatepass"))


def _json_bytes(value: Mapping[str, Any] | Iterable[Any] | None) -> int:
    if not value:
        return 0
    return _bytes(json.dumps(value, ensure_ascii=False, default=dict))
