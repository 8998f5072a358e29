"""The encodings of text: found, doubted, named, and turned into UTF-8."""

import codecs
import unicodedata
from itertools import pairwise
from typing import BinaryIO

from django.utils.translation import gettext_lazy as _

SAMPLE = 64 * 1024  # bytes that the guess is made from
SEARCHED = 64 * 1024 * 1024  # bytes of a file in which lines that are not UTF-8 are looked for
LINE = 64 * 1024
TELLING = 10  # characters beyond ASCII from which on kana tell
CHUNK = 1024 * 1024
WIDE = 0.3  # of the bytes at even or at odd places, from which on NULs there are halves of UTF-16
EVIDENCE = 60  # different pairs of neighbours beyond ASCII, from which on a guess may be sure
ODD = 0.02  # of the letters beyond ASCII
LINKS = frozenset("’‘'-‐·•ー々")  # that may be inside words
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


# Encodings that have letters with accents at the same places: long texts make sense in several of them.
RIVALS = ("cp1252", "cp1250", "iso8859-2", "iso8859-15", "cp1254")
ALPHABETS = {"LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI"}


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
    """Return the encoding of a text: UTF-8 if most of its lines are, or what charset-normalizer makes of the others."""
    file.seek(0)
    head = file.read(4)
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    file.seek(0)
    if wide := _find_wide(file.read(SAMPLE)):
        return wide
    file.seek(0)
    others, are_utf8 = _lines_not_utf8(file)
    if not others or are_utf8 > len(others):
        return "utf-8"
    file.seek(0)
    start = file.read(SAMPLE)
    telling = start if others[0] in start else b"".join(others)  # plain lines tell the language, too
    if _has_euc_kana(telling):
        return "euc-jp"
    import charset_normalizer  # noqa: PLC0415 - heavy, and rarely needed

    matches = list(
        charset_normalizer.from_bytes(
            telling,
            cp_isolation=[name for name in ENCODINGS if name != "mac-roman" and name not in WITHOUT_MARK],
        )
    )
    order = list(ENCODINGS)
    found = [
        find_codec(match.encoding)
        for match in matches
        if (match.chaos, match.coherence) == (matches[0].chaos, matches[0].coherence)
    ]
    # Of a few words several may be as likely: then the one that is used the most.
    return min(found, key=lambda name: order.index(name) if name in order else len(order), default="cp1252")


def is_sure(file: BinaryIO, encoding: str) -> bool:
    """Return whether a text holds enough to tell its encoding, once it was found, from others of the same bytes.

    A few words may be words in several encodings, with other letters in each.
    """
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    if encoding == "utf-8" or any(head.startswith(mark) for mark, _name in MARKS):
        return True
    if encoding in WITHOUT_MARK:
        return True
    others, _are_utf8 = _lines_not_utf8(file)
    raw = b"".join(others)
    text = raw.decode(encoding, "replace")
    rivals = {raw.decode(rival, "replace") for rival in (RIVALS if encoding in RIVALS else ())} - {text}
    if any(_share_of_odd(rival) <= ODD for rival in rivals):
        return False
    beyond = {pair for pair in pairwise(text) if not (pair[0].isascii() and pair[1].isascii())}
    return len(beyond) >= EVIDENCE and _share_of_odd(text) <= ODD


def _share_of_odd(text: str) -> float:
    """Return the share of characters beyond ASCII that a right encoding would hardly give their places.

    They are capitals inside words, signs between letters, and letters of two scripts side by side.
    """
    letters = sum(not character.isascii() for character in text)
    odd = sum(map(_is_odd, text, text[1:], text[2:]))
    return odd / letters if letters else 0.0


def _is_odd(before: str, here: str, after: str) -> bool:
    if here.isascii() and before.isascii():
        return False
    if unicodedata.category(here)[0] == "C" or "\uff61" <= here <= "\uff9f":
        return True
    if not here.isalpha():
        return before.isalpha() and after.isalpha() and not here.isascii() and here not in LINKS
    return (before.islower() and here.isupper()) or (
        before.isalpha()
        and _script(before) != _script(here)
        and {_script(before), _script(here)} <= ALPHABETS
    )


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _find_wide(start: bytes) -> str:
    """Return the kind of UTF-16 that a text without a mark has, by the half of its bytes that are NULs."""
    for name, halves, others in (
        ("utf-16-le", start[1::2], start[::2]),
        ("utf-16-be", start[::2], start[1::2]),
    ):
        if len(halves) > 1 and halves.count(0) >= WIDE * len(halves) and not others.count(0):
            return name
    return ""


def _has_euc_kana(text: bytes) -> bool:
    """Return whether a text is EUC-JP, by its share of kana. In short ones charset-normalizer sees Big5.

    A few characters of Big5 may be kana by chance, as frequent ones have the bytes of kana.
    """
    try:
        shown = codecs.getincrementaldecoder("euc-jp")().decode(text)
    except UnicodeDecodeError:
        return False
    beyond_ascii = [character for character in shown if not character.isascii()]
    kana = sum("\u3040" <= character <= "\u30ff" for character in beyond_ascii)
    return len(beyond_ascii) >= TELLING and kana > len(beyond_ascii) / 5


def _lines_not_utf8(file: BinaryIO) -> tuple[list[bytes], int]:
    """Return the first lines that are not UTF-8, and how many lines beyond ASCII are."""
    others: list[bytes] = []
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
