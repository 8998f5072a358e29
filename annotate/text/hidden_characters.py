"""Characters that hide or deceive, made visible: invisible ones are named, and words of mixed scripts marked."""

import re
import unicodedata

from django.utils.html import escape
from django.utils.translation import gettext as _

# Control, zero-width, filler, blank, direction, variation, musical and tag characters. The flags of England, Scotland
# and Wales are spelled in tags, and matched whole, to be left alone.
TAGGED = "|".join(
    "".join(chr(0xE0000 + ord(letter)) for letter in place) for place in ("gbeng", "gbsct", "gbwls")
)
TAGGED_FLAG = f"\U0001f3f4(?:{TAGGED})\U000e007f"
HIDDEN = re.compile(
    TAGGED_FLAG
    + "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
# The neighbours beside which some of them do honest work: the character before or after.
JOINING = (  # Arabic, Syriac, the scripts of India and its neighbours, Khmer, Mongolian
    "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefe"
    "\U00010a00-\U00011fff\U0001e900-\U0001e95f"
)
RIGHT_TO_LEFT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff"
HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
SYMBOLS = (  # arrows, mathematics, technical signs, dingbats, emoji
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u23ff\u24c2\u25a0-\u27bf\u2900-\u29ff\u2a00-\u2bff\u3030\u303d\u3297"
    "\u3299\U0001f000-\U0001faff"
)
HONEST = re.compile(
    "|".join(
        [
            f"(?<=[{JOINING}])[\u200c\u200d]|[\u200c\u200d](?=[{JOINING}])",
            f"(?<=[{SYMBOLS}\ufe0f])\u200d(?=[{SYMBOLS}])",  # one emoji made of several
            f"(?<=[{RIGHT_TO_LEFT}])[\u061c\u200e\u200f]|[\u061c\u200e\u200f](?=[{RIGHT_TO_LEFT}])",
            f"(?<=[{SYMBOLS}{HAN}])[\ufe00-\ufe0f]|(?<=[#*0-9])\ufe0f(?=\u20e3)",
            f"(?<=[{HAN}])[\U000e0100-\U000e01ef]",  # a variant of an ideograph
            "(?<=[\u2801-\u28ff])\u2800|\u2800(?=[\u2801-\u28ff])",  # a space in braille
            TAGGED_FLAG,
        ]
    )
)
LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
# Cyrillic and Greek letters that pass for Latin ones.
LOOKALIKE = re.compile(
    "[\u0400-\u04ff\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b9\u03bd\u03bf\u03c1\u03c5]"
)
WORD = re.compile(r"\w+")


def make_visible(text: str) -> str:
    """Return `text` escaped for HTML, with hidden characters named and words of mixed scripts marked."""
    return mark_hidden(escape(text))


def mark_hidden(escaped: str) -> str:
    """Mark what hides in text that is escaped already: entities are ASCII, so they are never touched."""
    if _is_plain(escaped):
        return escaped
    marked = WORD.sub(_mark_word, escaped)
    return HIDDEN.sub(_name_hidden, marked)


def find_hidden(text: str) -> list[int]:
    """Return where `mark_hidden` marks something, in order."""
    if _is_plain(text):
        return []
    hidden = [found.start() for found in HIDDEN.finditer(text) if not HONEST.match(text, found.start())]
    return sorted(hidden + [found.start() for found in WORD.finditer(text) if _is_mixed(found[0])])


def _is_plain(text: str) -> bool:
    """Return whether nothing in `text` can hide. Most texts end here, at the cost of one search."""
    return text.isascii() and not HIDDEN.search(text)


def _mark_word(match: re.Match[str]) -> str:
    word = match[0]
    if not _is_mixed(word):
        return word
    title = escape(_("Letters of several alphabets"))
    return f'<span class="mixed-script" title="{title}">{word}</span>'


def _is_mixed(word: str) -> bool:
    return bool(not word.isascii() and LATIN.search(word) and LOOKALIKE.search(word))


def _name_hidden(match: re.Match[str]) -> str:
    if HONEST.match(match.string, match.start()):
        return match[0]
    name = unicodedata.name(match[0], "control character").lower()
    return f'<span class="hidden-character" title="{name}">U+{ord(match[0]):04X}</span>'
