"""The words in which two texts differ, by their longest common subsequence, and the white space between equal words.

The subsequence is exact, and its cost is the same for every pair of texts of a length. One row of the table is one
integer of a bit per word (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"). So n words against m take n
operations on m bits, whatever the words are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
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
WORD = regex.compile(_WORD, regex.V1)
CHARACTER = regex.compile(r"(?!\s)\X")
LETTER = regex.compile(rf"[{_UNSPACED}]", regex.V1)  # with which a character of such a script begins
# A block of code: a line that begins with three or more backticks or tildes, and all to the next line of as many, or to
# the end. Behind backticks the first line has no other, as that is code within a line. What a repetition took it keeps,
# or a line of signs would be read again from each of them.
FENCED = regex.compile(
    r"""
    ^ [ \t]*+ (?: (`{3,}+) [^`\n]*+ | (~{3,}+) [^\n]*+ ) \n
    .*? (?: ^ [ \t]*+ (?: \1 `*+ | \2 ~*+ ) (?= [ \t]*+ \r? $ ) | \Z )
    """,
    regex.M | regex.S | regex.X,
)


class Differences(NamedTuple):
    """Both texts, cut for display and safe for HTML, with the words that the other one lacks in <mark>.

    White space that differs behind a common word is in <mark class="space">. An empty <mark class="gap"> is where the
    other text holds more. Both texts number their differences alike, in `data-at`. `stopped` says of each whether more
    than WORD_LIMIT of its words are between the first difference and the last one. Nothing is marked beyond the limit.
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
    sides = [_Side(text, side, limit) for text, side, limit in zip(shown, tokens, limits, strict=True)]
    marks: list[list[Mark]] = [[], []]
    ends = [(-1, -1), *kept, (len(words[0]), len(words[1]))]
    number = 0
    for before, after in pairwise(ends):
        found = [side.spans(first, last) for side, first, last in zip(sides, before, after, strict=True)]
        is_spaced = _white(shown[0], found[0]) != _white(shown[1], found[1])
        if not is_spaced and not any(span.words for span in found):
            continue
        for side, span in zip(marks, found, strict=True):
            side.extend(_marks(number, span, is_spaced))
        number += 1
    html = [_marked(text, side) for text, side in zip(shown, marks, strict=True)]
    return Differences((html[0], html[1]), (limits[0] < stops[0], limits[1] < stops[1]))


class Mark(NamedTuple):
    """A place of a difference in one of the texts. One where this text lacks what the other holds is empty."""

    start: int
    end: int
    number: int
    is_space: bool = False


class _Spans(NamedTuple):
    """The white space behind a common word, and the words from there to the next common one, if there are some."""

    space: tuple[int, int]
    words: tuple[int, int] | None


@dataclass(frozen=True)
class _Side:
    text: str
    tokens: list[regex.Match[str]]
    limit: int

    def spans(self, before: int, after: int) -> _Spans:
        """Return what is between the common words at two positions of the list, of which the first may be -1."""
        tokens = self.tokens
        lead = tokens[0].start() if tokens else len(self.text)
        space = tokens[before].span(2) if before >= 0 else (0, lead)
        others = tokens[before + 1 : min(after, self.limit)]
        return _Spans(space, (others[0].start(), others[-1].end(1)) if others else None)


def _white(text: str, spans: _Spans) -> str:
    return text[slice(*spans.space)]


def _marks(number: int, spans: _Spans, is_spaced: bool) -> list[Mark]:
    start, end = spans.space
    found = [Mark(start, end, number, is_space=True)] if is_spaced and start < end else []
    found += [Mark(*spans.words, number)] if spans.words else []
    return found or [Mark(end, end, number)]


def _common_ends(left: list[str], right: list[str]) -> tuple[int, int]:
    """Return how many words two lists have in common at their beginning, and then at their end.

    Some longest common subsequence holds all of them.
    """
    shorter = min(len(left), len(right))
    start = next((place for place in range(shorter) if left[place] != right[place]), shorter)
    rest = shorter - start
    end = next((place for place in range(rest) if left[-1 - place] != right[-1 - place]), rest)
    return start, end


class Beginning(NamedTuple):
    """The length that two texts have in common: whole words, or characters of a script that writes no spaces."""

    length: int
    is_of_words: bool


def measure_beginning(left: str, right: str) -> Beginning:
    """Return how far two texts are the same, by the words that differences are found by."""
    words = letters = end = 0
    for one, other in zip(TOKEN.finditer(left), TOKEN.finditer(right), strict=False):
        if one[1] != other[1]:
            break
        end = one.end(1)
        words += WORD.match(one[1]) is not None
        letters += LETTER.match(one[1]) is not None
        if one[2] != other[2]:
            break
    if letters > words:
        return Beginning(len(CHARACTER.findall(left[:end])), is_of_words=False)
    return Beginning(words, is_of_words=True)


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


def _marked(text: str, marks: list[Mark]) -> SafeString:
    """Return `text` with these places marked, and its blocks of code as code."""
    html = []
    waiting = deque(marks)
    for start, end, is_code in _regions(text):
        inside = []
        while waiting and (waiting[0].start < end or end == len(text)):
            mark = waiting.popleft()
            inside.append(mark._replace(end=min(mark.end, end)))
            if mark.end > end:
                waiting.appendleft(mark._replace(start=end))
                break
        part = _mark_part(text, start, end, inside)
        html.append(f'<span class="code">{part}</span>' if is_code else part)
    return mark_safe("".join(html))  # noqa: S308 - every piece went through make_visible()


def _regions(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the parts of a text, and whether each is a block of code between fences."""
    at = 0
    for fenced in FENCED.finditer(text):
        if at < fenced.start():
            yield at, fenced.start(), False
        yield *fenced.span(), True
        at = fenced.end()
    if at < len(text) or not text:
        yield at, len(text), False


def _mark_part(text: str, at: int, end: int, marks: list[Mark]) -> str:
    html = []
    for mark in marks:
        html.append(make_visible(text[at : mark.start]))
        shown = make_visible(text[mark.start : mark.end])
        kind = ' class="gap"' if mark.start == mark.end else ' class="space"' if mark.is_space else ""
        if mark.is_space:  # the stylesheet draws a sign where a line ends, and at a tab
            shown = shown.replace("\n", '<span class="line-end"></span>\n')
            shown = shown.replace("\t", '<span class="tab"></span>\t')
        html.append(f'<mark{kind} data-at="{mark.number}">{shown}</mark>')
        at = mark.end
    html.append(make_visible(text[at:end]))
    return "".join(html)
