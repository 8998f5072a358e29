"""The encodings of text: found, doubted, named, and turned into UTF-8.

charset-normalizer found them before. Of files of 30 rows in 41 combinations of language and encoding it took dozens for
another without a word, with other letters. It also gives no figure by which its second guess may be compared.
"""

import codecs
import re
import unicodedata
from typing import BinaryIO

from django.utils.translation import gettext_lazy as _

from primitives.letters import LEVELS, weigh

SAMPLE = 64 * 1024  # bytes that the guess is made from
SEARCHED = 64 * 1024 * 1024  # bytes of a file in which lines that are not UTF-8 are looked for
LINE = 64 * 1024
CHUNK = 1024 * 1024
WIDE = 0.3  # of the bytes at even or at odd places, from which on NULs there are halves of UTF-16
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

WITHOUT_MARK = ("utf-16-le", "utf-16-be")
# What a person may choose, by Python's names.
ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": _("UTF-16 without a mark, little-endian"),
    "utf-16-be": _("UTF-16 without a mark, big-endian"),
    "cp1252": _("Western European (Windows-1252)"),
    "iso8859-15": _("Western European (ISO 8859-15)"),
    "cp1250": _("Central European (Windows-1250)"),
    "iso8859-2": _("Central European (ISO 8859-2)"),
    "cp1251": _("Cyrillic (Windows-1251)"),
    "koi8-r": _("Cyrillic (KOI8-R)"),
    "cp1253": _("Greek (Windows-1253)"),
    "cp1254": _("Turkish (Windows-1254)"),
    "cp1255": _("Hebrew (Windows-1255)"),
    "cp1256": _("Arabic (Windows-1256)"),
    "cp1257": _("Baltic (Windows-1257)"),
    "cp1258": _("Vietnamese (Windows-1258)"),
    "cp874": _("Thai (Windows-874)"),
    "gb18030": _("Chinese, simplified (GB 18030)"),
    "big5": _("Chinese, traditional (Big5)"),
    "cp932": _("Japanese (Shift JIS)"),
    "euc-jp": _("Japanese (EUC-JP)"),
    "cp949": _("Korean (EUC-KR, CP949)"),
    "mac-roman": _("Mac OS Roman"),
}


# What may be found where no mark tells it. Of those that give the same text, the first is taken.
FINDABLE = tuple(name for name in ENCODINGS if not name.startswith("utf"))
# Rare encodings that are not offered, and never found. Where one of them fits better, what was found is unsure.
HIDDEN = (
    "cp437",
    "cp850",
    "cp852",
    "cp866",
    "cp862",
    "iso8859-4",
    "iso8859-5",
    "iso8859-6",
    "iso8859-7",
    "iso8859-13",
    "koi8-u",
    "mac-cyrillic",
    "mac-latin2",
    "mac-greek",
    "mac-turkish",
    "johab",
)
# Weights by how usual an encoding is: Windows-1252, where nothing speaks for another.
PRIORS = (
    dict.fromkeys(FINDABLE, -1.0)
    | dict.fromkeys(HIDDEN, -4.0)
    | {
        "cp1252": 0.0,
        "cp1254": -2.0,
        "cp1250": -3.0,
        "cp1257": -3.0,
        "iso8859-2": -4.0,
        "cp1258": -4.0,
        "mac-roman": -4.0,
    }
)
ASCII = bytes(range(128))
LITTLE, FITS_ILL = "little", "fits ill"  # doubts
SHARED = 0.5  # of the bytes at even and at odd places, from which on these are no halves of characters
BROKEN = 0.01  # of characters
ORDINARY = '\n\r ,;:."' + "aeiost"
ENOUGH = 200  # characters beyond ASCII in different words
MARGIN = 8.0  # by which the weight of an encoding exceeds that of others, from which on it is sure
MUCH = 150  # characters beyond ASCII, of which few may be in different words
MARGIN_OF_MUCH = 2.0
FIT, FIT_OF_MANY = -5.5, -8.5  # weight of a character beyond ASCII
WORD = re.compile(rb"[0-9\x40-\xff]+")  # a second byte of Chinese may be one of ASCII
WEIGHED = 16 * 1024  # bytes


def name_encoding(code: str) -> str:
    """Return what a person calls an encoding; its code where it is none of those that are offered."""
    return str(ENCODINGS.get(code, code))


def find_codec(name: str) -> str:
    """Return Python's name of a text encoding, or an empty text if there is no such encoding."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    if not info._is_text_encoding:
        return ""
    known = {codecs.lookup(code).name: code for code in ENCODINGS}
    return known.get(info.name, info.name)


def detect(file: BinaryIO) -> str:
    """Return the encoding of a text: UTF-8 if most of its lines are, or that which gives the others likely letters."""
    others, found = _find_unicode(file)
    return found or _rank(_words(others))[0][1]


def find_doubt(file: BinaryIO, encoding: str) -> str:
    """Return why the encoding that was found is unsure: LITTLE text, or text that FITS_ILL. Empty where it is sure.

    A few words may be words in several encodings, with other letters in each.
    """
    if encoding == "utf-8":
        return ""
    lines, found = _find_unicode(file)
    if found:
        return ""
    words = _words(lines)
    shown = words.decode(encoding, "replace")
    beyond = sum(not character.isascii() for character in shown)
    weight = weigh(shown, encoding) + PRIORS.get(encoding, 0.0)
    if weight < (FIT_OF_MANY if encoding in LEVELS else FIT) * beyond:
        return LITTLE if beyond < ENOUGH else FITS_ILL
    others = [other for other, _name, text in _rank(words, hidden=True) if text != shown]
    margin = MARGIN_OF_MUCH if _is_much(lines) else MARGIN
    if not others or weight - max(others) >= margin:
        return ""
    return LITTLE if beyond < ENOUGH else FITS_ILL


def _rank(words: bytes, *, hidden: bool = False) -> list[tuple[float, str, str]]:
    """Return weight, name and text of each encoding, the likeliest first."""
    found = []
    for name in FINDABLE + (HIDDEN if hidden else ()):
        text = words.decode(name, "replace")
        found.append((weigh(text, name) + PRIORS[name], name, text))
    return sorted(found, key=lambda one: -one[0])  # of equal ones the first stays first


def _words(lines: list[bytes]) -> bytes:
    """Return the different words beyond ASCII. What is repeated says no more."""
    words = dict.fromkeys(match.group() for match in WORD.finditer(b"".join(lines)))
    chosen, size = [], 0
    for word in words:
        if word.isascii():
            continue
        chosen.append(word)
        size += len(word)
        if size > WEIGHED:
            break
    return b" ".join(chosen)


def _is_much(lines: list[bytes]) -> bool:
    return sum(len(line.translate(None, ASCII)) for line in lines) >= MUCH


def _find_unicode(file: BinaryIO) -> tuple[list[bytes], str]:
    """Return lines that are not UTF-8, and the kind of Unicode that a text is in; an empty text for none."""
    file.seek(0)
    head = file.read(SAMPLE)
    for mark, name in MARKS:
        if head.startswith(mark):
            return [], name
    if wide := _find_wide(head):
        return [], wide
    others, are_utf8 = _lines_not_utf8(file)
    return others, "utf-8" if not others or are_utf8 > len(others) else ""


def _find_wide(start: bytes) -> str:
    """Return the kind of UTF-16 that a text without a mark has; an empty text for none.

    Half of the bytes of English are NULs. Of other scripts some are, and the bytes at even places are others than those
    at odd ones.
    """
    even, odd = start[::2], start[1::2]
    if len(odd) < 2 or not start.count(0):
        return ""
    for name, halves, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if halves.count(0) >= WIDE * len(halves) and not others.count(0):
            return name
    if _overlap(even, odd) > SHARED:
        return ""
    plain = {name: sum(map(start.decode(name, "replace").count, ORDINARY)) for name in WITHOUT_MARK}
    likely = max(plain, key=lambda name: plain[name])
    broken = sum(map(_is_broken, start.decode(likely, "replace")[:-1]))
    return likely if plain[likely] and broken <= BROKEN * len(odd) else ""


def _overlap(one: bytes, other: bytes) -> float:
    """Return which share of the bytes of two texts is the same."""
    return sum(min(one.count(byte) / len(one), other.count(byte) / len(other)) for byte in range(256))


def _is_broken(character: str) -> bool:
    return character not in "\t\r\n" and (
        character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs")
    )


def _lines_not_utf8(file: BinaryIO) -> tuple[list[bytes], int]:
    """Return the first lines that are not UTF-8, and how many lines beyond ASCII are."""
    others: list[bytes] = []
    file.seek(0)
    size = are_utf8 = read = 0
    rest = b""  # of a character inside which a long line was cut
    while (raw := file.readline(LINE)) and read < SEARCHED and size < SAMPLE:
        read += len(raw)
        raw, rest = rest + raw, b""
        if raw.isascii():
            continue
        try:
            _, used = codecs.utf_8_decode(raw, "strict", False)
        except UnicodeDecodeError:
            others.append(raw)
            size += len(raw)
        else:
            are_utf8 += 1
            rest = raw[used:]
    return others, are_utf8


def recode(file: BinaryIO, encoding: str, copy: BinaryIO) -> None:
    """Write the text as UTF-8. Raises UnicodeError where UTF-16 or UTF-32 is broken.

    In other encodings a byte that stands for nothing is written as it is. It is not UTF-8: the reader names its line.
    """
    wide = encoding.startswith(("utf-16", "utf-32"))
    errors = "strict" if wide else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    file.seek(0)
    while True:
        part = file.read(CHUNK)
        copy.write(decoder.decode(part, final=not part).encode("utf-8", errors))
        if not part:
            return
