"""The words in which two texts differ, by their longest common subsequence.

The subsequence is exact and its cost is the same for every pair of texts of a length: one row of the table is one
integer of a bit per word (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"), so n words against m take
n operations on m bits, whatever the words are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from django.utils.safestring import SafeString, mark_safe

from annotate.text.hidden_characters import visible
from annotate.text.rendering import cut

WORD_LIMIT = 6_000  # words compared; 6,000 rows of 6,000 bits are 4.5 MB
# A word with the space after it. Scripts that write no spaces are compared character by character.
TOKEN = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s])(\s*)")


class Differences(NamedTuple):
    """Both texts, cut for display and safe for HTML, from their first word on, with the words that the
    other one lacks in <mark>.

    `stopped` says of each whether it has words beyond WORD_LIMIT, where nothing is marked.
    """

    html: tuple[SafeString, SafeString]
    stopped: tuple[bool, bool]


def differences(left: str, right: str) -> Differences:
    # A completion often begins with the blank that parts it from its prompt.
    shown = [cut(text)[0].lstrip() for text in (left, right)]
    tokens = [list(TOKEN.finditer(text)) for text in shown]
    kept = common(*([match[1] for match in side[:WORD_LIMIT]] for side in tokens))
    html = [
        _marked(text, side, [pair[index] for pair in kept])
        for index, (text, side) in enumerate(zip(shown, tokens, strict=True))
    ]
    return Differences((html[0], html[1]), (len(tokens[0]) > WORD_LIMIT, len(tokens[1]) > WORD_LIMIT))


def common(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """The longest common subsequence of two lists, as pairs of positions."""
    places: dict[str, int] = {}
    for position, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(left)) - 1
    # In a row, bit i is 0 where the subsequence with left[: i + 1] is one longer than with left[:i].
    row = full
    rows = [row]
    for word in right:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
        rows.append(row)
    pairs = []
    i, j = len(left), len(right)
    while i and j:
        bit = 1 << (i - 1)
        if rows[j] & bit:
            i -= 1
        elif not rows[j - 1] & bit:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _marked(text: str, tokens: list[re.Match[str]], kept: list[int]) -> SafeString:
    """`text` with every run of compared words outside `kept` in one <mark>."""
    keep = set(kept)
    html, at, runs = (
        [],
        0,
        _runs([index for index in range(min(len(tokens), WORD_LIMIT)) if index not in keep]),
    )
    for first, last in runs:
        start, end = tokens[first].start(1), tokens[last].end(1)
        html.append(f"{visible(text[at:start])}<mark>{visible(text[start:end])}</mark>")
        at = end
    html.append(visible(text[at:]))
    return mark_safe("".join(html))  # noqa: S308 - every piece went through visible()


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """[1, 2, 5] -> [(1, 2), (5, 5)]"""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs
