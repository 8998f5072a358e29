"""Usernames: when two are the same to the eye, and which ones are refused.

Two names have one key when they differ only by case, by compatibility forms, or by letters that look alike
(Unicode's list of confusable characters), such as a Cyrillic а in place of a Latin a.
"""

from __future__ import annotations

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

# What a project's admin may not call a new account: people would take it for the site's keeper.
RESERVED = {
    "admin", "administrator", "anonymous", "everybody", "help", "moderator", "operator", "root", "security", "staff",
    "superuser", "support", "sysadmin", "system", "webmaster", "whetstone",
}  # fmt: skip


def fold(name: str) -> str:
    """Return the name without differences of case and compatibility forms."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def name_key(name: str) -> str:
    """Return the key that names which look the same share."""
    return "".join(map(_latin_twin, fold(name)))


def check_scripts(name: str) -> None:
    """Raise ValidationError if the name mixes scripts that no language writes together."""
    scripts: set[str] = categories.unique_aliases(name) - SHARED
    if len(scripts) > 1 and not any(scripts <= together for together in WRITTEN_TOGETHER):
        raise ValidationError(
            _("Use the letters of one alphabet: this name mixes %(scripts)s."),
            code="mixed_scripts",
            params={"scripts": ", ".join(sorted(script.title() for script in scripts))},
        )


def _latin_twin(character: str) -> str:
    """Return the ASCII letter or digit that looks like this character, or else the character."""
    if character.isascii():
        return character
    found = confusables.is_confusable(character, greedy=True) or [{"homoglyphs": []}]
    twins = [twin["c"].lower() for twin in found[0]["homoglyphs"]]
    return next((twin for twin in twins if twin.isascii() and twin.isalnum()), character)
