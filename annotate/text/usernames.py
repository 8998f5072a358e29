"""Usernames: when two are the same to the eye, and which ones are refused.

Two names have one key when they differ only by case, by compatibility forms, or by letters that look alike. Such
letters are in Unicode's list of confusable characters: a Cyrillic а looks like a Latin a. So do names that differ
by what is easily overlooked: invisible characters, modifier letters, small capitals, a full stop at the end.
"""

from __future__ import annotations

import re
import unicodedata

from confusable_homoglyphs import categories, confusables
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# The scripts that one language writes side by side (Unicode TR39, "highly restrictive").
WRITTEN_TOGETHER = (
    {"LATIN", "HAN", "HIRAGANA", "KATAKANA"},
    {"LATIN", "HAN", "BOPOMOFO"},
    {"LATIN", "HAN", "HANGUL"},
)
SHARED = {"COMMON", "INHERITED"}  # digits, punctuation, combining marks

# Characters without a shape of their own: controls, format characters, fillers, variation selectors, joiners.
INVISIBLE_CATEGORIES = {"Cc", "Cf", "Zl", "Zp"}
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
PUNCTUATION = ".+-_@"  # of usernames

# Names that a project's admin may not give to a new account: people would take it for the site's keeper.
RESERVED = {
    "admin", "administrator", "anonymous", "everybody", "help", "moderator", "operator", "root", "security", "staff",
    "superuser", "support", "sysadmin", "system", "webmaster", "whetstone",
}  # fmt: skip
NAME_REFUSED = _("This name cannot be used for a new account: choose another.")


def fold(name: str) -> str:
    """Return the name without differences of case and compatibility forms."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def name_key(name: str) -> str:
    """Return the key that names which look the same share."""
    visible = "".join(character for character in name if not _is_invisible(character))
    letters = "".join(map(_latin_twin, filter(_is_noticed, fold(visible))))
    return letters.rstrip(PUNCTUATION) or letters


def check_visible(name: str) -> None:
    """Raise ValidationError if the name has a character that cannot be seen."""
    if any(map(_is_invisible, name)):
        raise ValidationError(
            _("This name has a character that cannot be seen: retype it."), code="invisible"
        )


def check_scripts(name: str) -> None:
    """Raise ValidationError if the name mixes scripts that no language writes together."""
    scripts: set[str] = categories.unique_aliases(name) - SHARED
    if len(scripts) > 1 and not any(scripts <= together for together in WRITTEN_TOGETHER):
        raise ValidationError(
            _("Use the letters of one alphabet: this name mixes %(scripts)s."),
            code="mixed_scripts",
            params={"scripts": ", ".join(sorted(script.title() for script in scripts))},
        )


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in INVISIBLE_CATEGORIES or bool(INVISIBLE.match(character))


def _is_noticed(character: str) -> bool:
    """Return whether a reader notices this character. Of modifier letters only wide ones, such as the Japanese ー."""
    if unicodedata.category(character) == "Lm":
        return unicodedata.east_asian_width(character) == "W"
    return not character.isspace()


def _latin_twin(character: str) -> str:
    """Return the ASCII letter or digit that looks like this character, or else the character."""
    if character.isascii():
        return character
    small_capital = unicodedata.name(character, "").removeprefix("LATIN LETTER SMALL CAPITAL ")
    if len(small_capital) == 1:
        return small_capital.lower()
    found = confusables.is_confusable(character, greedy=True) or [{"homoglyphs": []}]
    twins = [twin["c"].lower() for twin in found[0]["homoglyphs"]]
    return next((twin for twin in twins if twin.isascii() and twin.isalnum()), character)
