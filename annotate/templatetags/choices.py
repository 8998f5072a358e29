"""Choices that several pages offer: one table each, for templates to loop over."""

from collections.abc import Mapping
from dataclasses import dataclass

from django import template
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

register = template.Library()


@dataclass(frozen=True)
class Verdict:
    """A verdict in words: as a control's name, on its button, and afterwards. `tone` is the colour of its badge."""

    code: str
    label: str | Promise
    short: str | Promise
    said: str | Promise
    tone: str = ""

    @property
    def letter(self) -> str:
        """Return the letter of the better side, if there is one."""
        return self.code[0].upper() if self.code[1:].isdigit() else ""

    @property
    def side(self) -> str:
        return self.letter.lower() or "even"


VERDICTS = (
    Verdict("a3", _("A is much better"), _("Much better"), _("A much better"), "accent"),
    Verdict("a2", _("A is better"), _("Better"), _("A better"), "accent"),
    Verdict("a1", _("A is slightly better"), _("Slightly"), _("A slightly better"), "accent"),
    Verdict("tie", _("Tie"), _("Tie"), _("Tie")),
    Verdict("both_bad", _("Both bad"), _("Both bad"), _("Both bad"), "warn"),
    Verdict("b1", _("B is slightly better"), _("Slightly"), _("B slightly better"), "accent"),
    Verdict("b2", _("B is better"), _("Better"), _("B better"), "accent"),
    Verdict("b3", _("B is much better"), _("Much better"), _("B much better"), "accent"),
)
SKIP = Verdict("skip", _("Skip"), _("Skip"), _("Skipped"))

TEXT_VIEWS = (("rendered", _("Formatted")), ("raw", _("Raw")), ("differences", _("Differences")))


@register.simple_tag
def verdict_scale(keys: Mapping[str, str] | None = None) -> list[tuple[Verdict, str]]:
    """Return the verdicts from A to B, each with its key."""
    return [(verdict, (keys or {}).get(verdict.code, "")) for verdict in VERDICTS]


@register.simple_tag
def verdict_of(code: str) -> Verdict:
    return next((verdict for verdict in VERDICTS if verdict.code == code), SKIP)


@register.simple_tag
def text_views(keys: Mapping[str, str] | None = None) -> list[tuple[str, str | Promise, str]]:
    """Return the ways to show a text: name, label and key."""
    return [(name, label, (keys or {}).get(name, "")) for name, label in TEXT_VIEWS]
