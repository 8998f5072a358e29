"""The words in which two texts differ, by their longest common subsequence, and the white space between equal words.

The subsequence is exact, and its cost is the same for every pair of texts of a length. One row of the table is one
integer of a bit per word (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"). So n words against m take n
operations on m bits, whatever the words are.
"""

from __future__ import annotations

from typing import NamedTuple

import regex
from django.utils.safestring import SafeString, mark_safe

from annotate.text.hidden_characters import make_visible
from annotate.text.images import fold
from annotate.text.rendering import cut

WORD_LIMIT = 6_000  # words compared; 6,000 rows of 6,000 bits are 4.5 MB
COMPARED_FIRST = 10_000  # characters of each text that tell whether two are similar
SHORT = 30  # runs of words
SIMILAR = 0.25  # of the runs of the shorter text
# A word with the space after it, which may also come before the first word. Scripts that write no spaces are compared
# letter by letter. A letter is a grapheme cluster: an emoji of a family, a key cap, a Thai letter with its vowel.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"(?:(?![{_UNSPACED}])[\w--\p{{M}}](?!\ufe0f|\u20e3)[\p{{M}}\u200c\u200d]*)+"
TOKEN = regex.compile(rf"({_WORD}|(?!\s)\X)(\s*)", regex.V1)


class Differences(NamedTuple):
    """Both texts, cut for display and safe for HTML, with the words that the other one lacks in <mark>.

    White space that differs behind a common word is in <mark class="space">. `stopped` says of each whether more than
    WORD_LIMIT of its words are between the first difference and the last one. Nothing is marked beyond the limit.
    """

    html: tuple[SafeString, SafeString]
    stopped: tuple[bool, bool]


def mark_differences(left: str, right: str) -> Differences:
    """Return both texts with their differences marked."""
    shown = [cut(fold(text)[0])[0] for text in (left, right)]
    tokens = [list(TOKEN.finditer(text)) for text in shown]
    words = [[match[1] for match in side] for side in tokens]
    start, end = _common_ends(*words)
    stops = [len(side) - end for side in words]
    limits = [min(stop, start + WORD_LIMIT) for stop in stops]
    between = common(*(side[start:limit] for side, limit in zip(words, limits, strict=True)))
    kept = [(place, place) for place in range(start)]
    kept += [(start + i, start + j) for i, j in between]
    kept += [(stops[0] + place, stops[1] + place) for place in range(end)]
    spaced = [pair for pair in kept if tokens[0][pair[0]][2] != tokens[1][pair[1]][2]]
    leads = [side[0].start() if side else len(text) for text, side in zip(shown, tokens, strict=True)]
    html = []
    for index, (text, side) in enumerate(zip(shown, tokens, strict=True)):
        same = {pair[index] for pair in kept}
        other = [position for position in range(start, limits[index]) if position not in same]
        spaces = [side[pair[index]].span(2) for pair in spaced]
        if shown[0][: leads[0]] != shown[1][: leads[1]]:
            spaces.append((0, leads[index]))
        places = [(side[first].start(), side[last].end(1)) for first, last in _runs(other)]
        html.append(_marked(text, places, [(first, last) for first, last in spaces if first < last]))
    return Differences((html[0], html[1]), (limits[0] < stops[0], limits[1] < stops[1]))


def _common_ends(left: list[str], right: list[str]) -> tuple[int, int]:
    """Return how many words two lists have in common at their beginning, and then at their end.

    Some longest common subsequence holds all of them.
    """
    shorter = min(len(left), len(right))
    start = next((place for place in range(shorter) if left[place] != right[place]), shorter)
    rest = shorter - start
    end = next((place for place in range(rest) if left[-1 - place] != right[-1 - place]), rest)
    return start, end


def are_similar(left: str, right: str) -> bool:
    """Return whether two texts have so much in common that their differences say something.

    Two answers of one model to one question share its words, but few runs of three. A short text is compared anyway.
    """
    first, second = (_runs_of_words(fold(text)[0][:COMPARED_FIRST]) for text in (left, right))
    shorter = min(len(first), len(second))
    return shorter <= SHORT or len(first & second) >= SIMILAR * shorter


def _runs_of_words(text: str) -> set[tuple[str, ...]]:
    words = [match[1] for match in TOKEN.finditer(text)]
    return set(zip(words, words[1:], words[2:], strict=False))


def common(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Return the longest common subsequence of two lists, as pairs of positions."""
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


def _marked(text: str, words: list[tuple[int, int]], spaces: list[tuple[int, int]]) -> SafeString:
    """Return `text` with these places marked: words, and white space."""
    html, at = [], 0
    for (start, end), is_space in sorted([(one, False) for one in words] + [(one, True) for one in spaces]):
        html.append(make_visible(text[at:start]))
        shown = make_visible(text[start:end])
        if is_space:  # the stylesheet draws a sign where a line ends, and at a tab
            shown = shown.replace("\n", '<span class="line-end"></span>\n')
            shown = shown.replace("\t", '<span class="tab"></span>\t')
        html.append(f'<mark class="space">{shown}</mark>' if is_space else f"<mark>{shown}</mark>")
        at = end
    html.append(make_visible(text[at:]))
    return mark_safe("".join(html))  # noqa: S308 - every piece went through make_visible()


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """Return the runs of numbers: [1, 2, 5] -> [(1, 2), (5, 5)]."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs
