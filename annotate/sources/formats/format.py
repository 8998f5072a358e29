"""The shape of a format: how its records are recognised, and what they say."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from primitives.text import printable

Record = Mapping[str, Any]
PROMPTS, COMPARISONS, JUDGED, GOLD = "prompts", "comparisons", "judged", "gold"


@dataclass(frozen=True)
class Format:
    """A way in which files write prompts and preferences. `name` never changes: imports store it.

    `fits` looks at the keys of a record and at the types of their values. `read` is called for records that fit, and
    returns what one says. `becomes` names what such files are mostly brought in as, and `is_fixed` that they are that
    first of all, whatever else they hold. `explain` says what is wrong with a record that almost fits, if it can.
    `contradicts` says that a record gives the format's numbers another meaning: one such record is enough.
    """

    name: str
    title: str
    becomes: str
    fits: Callable[[Record], bool]
    read: Callable[[Record], Candidate | Iterable[Candidate]]
    is_fixed: bool = False
    explain: Callable[[Record], str] = lambda _record: ""
    contradicts: Callable[[Record], bool] = lambda _record: False

    @property
    def label(self) -> str:
        """Return what the format is called, in the reader's language."""
        return _(self.title)

    def recognise(self, record: object) -> bool:
        """Return whether a record has this format. Cheap, and never raises."""
        return isinstance(record, Mapping) and self.fits(record)

    def rows(self, record: object) -> Iterator[Candidate]:
        """Yield what a record says. Raises RecordError where it does not fit."""
        if not isinstance(record, Mapping):
            raise RecordError(_("The record must be an object."))
        if not self.fits(record):
            if reason := self.explain(record):
                raise RecordError(reason)
            raise RecordError(
                _("The record is not of the format “%(format)s”: it has the keys %(keys)s.")
                % {"format": self.label, "keys": _list_keys(record) or _("of none")}
            )
        found = self.read(record)
        yield from [found] if isinstance(found, Candidate) else found


def _list_keys(record: Record) -> str:
    """Return the first keys of a record, in quotes, and of which of them the value is null."""
    return ", ".join(
        f"“{printable(str(key), 40)}”" + (_(" (null)") if value is None else "")
        for key, value in list(record.items())[:12]
    )
