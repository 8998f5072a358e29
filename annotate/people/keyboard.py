"""The keys of the desk: what each act is called, its default key, and what a person chose instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.errors import RefusalError
from annotate.judgments.scale import CHOICES

NAMED = (
    "Enter",
    "ArrowLeft",
    "ArrowRight",
    "ArrowUp",
    "ArrowDown",
    "Home",
    "End",
    "PageUp",
    "PageDown",
    "Insert",
)


@dataclass(frozen=True)
class Act:
    """Something that a key does. `name` is what controls call it by."""

    name: str
    label: Any  # lazily translated
    default: str


ACTS = (
    *(Act(choice.code, choice.label, choice.key) for choice in CHOICES.values()),
    Act("undo", gettext_lazy("Undo"), "u"),
    Act("redo", gettext_lazy("Redo"), "r"),
    Act("flag", gettext_lazy("Flag for an admin"), "f"),
    Act("notes", gettext_lazy("Go to reasons and rationale"), "n"),
    Act("criteria", gettext_lazy("Next criterion, then the reasons (digits choose)"), "c"),
    Act("raw", gettext_lazy("Raw text, and back"), "t"),
    Act("differences", gettext_lazy("Differences, and back"), "d"),
    Act("next_difference", gettext_lazy("Next difference"), "e"),
    Act("prompt", gettext_lazy("All of the prompt, and back"), "p"),
    Act("wrap", gettext_lazy("Wrap lines of code, or not"), "w"),
    Act("together", gettext_lazy("Scroll together or apart"), "l"),
    Act("down", gettext_lazy("Scroll down"), "j"),
    Act("up", gettext_lazy("Scroll up"), "k"),
    Act("guidelines", gettext_lazy("Guidelines"), "g"),
    Act("keys", gettext_lazy("All keys"), "?"),
)


def read_keys(preferences: Mapping[str, Any]) -> dict[str, str]:
    """Return act -> key, for a user with these preferences. Keys that are turned off are empty."""
    chosen = preferences.get("keys", {})
    if preferences.get("keys_off"):
        return {act.name: "" for act in ACTS}
    taken = set(chosen.values())  # an act that is newer than the choice does not take its key
    return {act.name: chosen.get(act.name, "" if act.default in taken else act.default) for act in ACTS}


def check_keys(given: Mapping[str, str]) -> dict[str, str]:
    """Check a user's keys, by act. Return those that differ from the defaults. An empty key turns an act's off."""
    taken: dict[str, Any] = {}
    chosen = {}
    for act in ACTS:
        key = _clean(given.get(act.name, act.default), act)
        if key and key in taken:
            raise RefusalError(
                _("“%(key)s” is chosen twice: for “%(first)s” and for “%(second)s”.")
                % {"key": key, "first": taken[key], "second": act.label}
            )
        taken[key] = act.label
        if key != act.default:
            chosen[act.name] = key
    return chosen


def _clean(key: str, act: Act) -> str:
    key = key.strip()
    if len(key) == 1 and key.isprintable():
        return key.lower()
    if not key or key in NAMED:
        return key
    raise RefusalError(
        _("“%(key)s” for “%(act)s” is not one key: use a character, or one of %(named)s.")
        % {"key": key[:20], "act": act.label, "named": ", ".join(NAMED)}
    )
