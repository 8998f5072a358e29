"""The settings by which a round's comparisons are chosen among candidates."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

LEAST_CANDIDATES, MOST_CANDIDATES = 2, 64
LEAST_CONTROL = 0.1

PROBE, ALWAYS, RANDOM = "probe", "always", "random"
BY = {
    PROBE: gettext_lazy("by the probe while it pays"),
    ALWAYS: gettext_lazy("by the probe, always"),
    RANDOM: gettext_lazy("at random"),
}


class ChoosingError(ValueError):
    """A setting that cannot be: its name, and what is wrong with it."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message, self.field = message, field


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """The choice of fresh comparisons: `by` what, among how many `candidates` of each, and the share of `control`."""

    by: str = PROBE
    candidates: int = 8
    control: float = 0.25

    def __post_init__(self) -> None:
        if not isinstance(self.by, str) or self.by not in BY:
            raise ChoosingError(_("must be one of %(names)s.") % {"names": ", ".join(BY)}, "by")
        self._check_number("candidates", LEAST_CANDIDATES, MOST_CANDIDATES, int)
        self._check_number("control", LEAST_CONTROL, 1.0, (int, float))

    def _check_number(self, name: str, low: float, high: float, kind: Any) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            message = _("must be from %(low)s to %(high)s, not %(value)s.")
            raise ChoosingError(message % {"low": low, "high": high, "value": repr(value)}, name)

    @classmethod
    def from_settings(cls, *given: object) -> Self:
        """Return the settings of several objects, of which a later one lies over those before. Raises ChoosingError."""
        known = {field.name for field in fields(cls)}
        merged: dict[str, Any] = {}
        for one in given:
            if not isinstance(one, Mapping):
                raise ChoosingError(_("must be an object of settings."), "")
            for name in one:
                if name not in known:
                    raise ChoosingError(
                        _("is unknown. There are: %(names)s.") % {"names": ", ".join(sorted(known))},
                        str(name),
                    )
            merged |= one
        return cls(**merged)
