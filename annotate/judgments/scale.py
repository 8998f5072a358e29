"""The verdicts as annotators give them: each with its code, its words, its key, and what it stores.

A code is the word of forms and pages: "a3" is "A is much better", then a2, a1, tie, both_bad, b1, b2, b3, skip and
not_mine. A is the completion that was drawn for the left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import Judgment

SIDES = ("a", "b")  # left and right, as they were drawn for this annotator


@dataclass(frozen=True)
class Choice:
    """A verdict in words: as a control's name, on its button, and afterwards. `tone` is the colour of its badge.

    `key` is its default key. `side` is the better completion's; one without is stored by its code.
    """

    code: str
    label: str | Promise
    short: str | Promise
    said: str | Promise
    key: str
    tone: str = ""
    side: str = ""
    strength: int | None = None

    @property
    def letter(self) -> str:
        return self.side.upper()

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of a Verdict."""
        if self.code == Judgment.SkipReason.NOT_MINE:
            return {"verdict": Judgment.Verdict.SKIP.value, "skip_reason": self.code}
        if not self.side:
            return {"verdict": self.code}
        return {
            "verdict": Judgment.Verdict.PREFER.value,
            "preferred_id": self.side,
            "strength": self.strength,
        }


SCALE = (
    Choice("a3", _("A is much better"), _("Much better"), _("A much better"), "1", "accent", "a", 3),
    Choice("a2", _("A is better"), _("Better"), _("A better"), "2", "accent", "a", 2),
    Choice("a1", _("A is slightly better"), _("Slightly"), _("A slightly better"), "3", "accent", "a", 1),
    Choice("tie", _("Tie"), _("Tie"), _("Tie"), "4"),
    Choice("both_bad", _("Both bad"), _("Both bad"), _("Both bad"), "5", "warn"),
    Choice("b1", _("B is slightly better"), _("Slightly"), _("B slightly better"), "6", "accent", "b", 1),
    Choice("b2", _("B is better"), _("Better"), _("B better"), "7", "accent", "b", 2),
    Choice("b3", _("B is much better"), _("Much better"), _("B much better"), "8", "accent", "b", 3),
)
SKIP = Choice("skip", _("Skip"), _("Skip"), _("Skipped"), "s")
# A skip that says nothing of the comparison: others may know its language or field.
NOT_MINE = Choice(
    "not_mine", _("Not my language or field"), _("Not mine"), _("Not my language or field"), "m"
)
SKIPS = (SKIP, NOT_MINE)
CHOICES = {choice.code: choice for choice in (*SCALE, *SKIPS)}
# What a file says that does not say how much better one is. Nobody can choose it.
UNSCALED = (
    Choice("a", _("A is better"), _("Better"), _("A better"), "", "accent", "a"),
    Choice("b", _("B is better"), _("Better"), _("B better"), "", "accent", "b"),
)
SAID = CHOICES | {choice.code: choice for choice in UNSCALED}


def code_of(said: Mapping[str, Any], left: int) -> str:
    """Return the code of what was said with the completion `left` on the left, or "" if nothing was.

    `said` has the fields of a judgment, or of one of its criteria.
    """
    if said.get("verdict") == Judgment.Verdict.SKIP and said.get("skip_reason"):
        return str(said["skip_reason"])
    if said.get("verdict") != Judgment.Verdict.PREFER:
        return str(said.get("verdict") or "")
    return f"{'a' if said.get('preferred_id') == left else 'b'}{said.get('strength') or ''}"


def judgment_code(judgment: Judgment, left: int | None = None) -> str:
    """Return the judgment's code as its annotator saw it, or as one who sees the completion `left` on the left."""
    said = {name: getattr(judgment, name) for name in ("verdict", "preferred_id", "strength", "skip_reason")}
    return code_of(said, judgment.left_id if left is None else left)


def side_of(judgment: Judgment, completion: int | None) -> str:
    """Return the side that the completion was shown on, or "" for none."""
    return dict(zip((judgment.left_id, judgment.right_id), SIDES, strict=True)).get(completion or 0, "")
