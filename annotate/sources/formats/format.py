"""The shape of a format: how its records are recognised, and what they say."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats.views import fold_names, plain_view, views
from primitives.text import printable

Record = Mapping[str, Any]
PROMPTS, COMPARISONS, JUDGED, GOLD = "prompts", "comparisons", "judged", "gold"
# Errors of this code that a record may provoke: its row is refused, and the file goes on.
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """A way in which files write prompts and preferences. `name` never changes: imports store it.

    `fits` looks at the keys of a record and at the types of their values. `read` is called for records that fit, and
    returns what one says. `becomes` names what such files are mostly brought in as, and `is_fixed` that they are that
    first of all, whatever else they hold. `explain` says what is wrong with a record that almost fits, if it can.
    `contradicts` says that a record gives the format's numbers another meaning: one such record is enough.
    `fits_together` looks at all records of a file's beginning that fit. `opens_cells` says that `read` opens the cells
    of a table by what its own columns say.
    """

    name: str
    title: str
    becomes: str
    fits: Callable[[Record], bool]
    read: Callable[[Record], Candidate | Iterable[Candidate]]
    is_fixed: bool = False
    explain: Callable[[Record], str] = lambda _record: ""
    contradicts: Callable[[Record], bool] = lambda _record: False
    fits_together: Callable[[Sequence[Record]], bool] = lambda _records: True
    opens_cells: bool = False

    @property
    def label(self) -> str:
        """Return what the format is called, in the reader's language."""
        return _(self.title)

    def recognise(self, record: object) -> bool:
        """Return whether a record has this format. Cheap, and never raises."""
        try:
            return isinstance(record, Mapping) and self.fits(record)
        except UNFORESEEN as error:
            self._report(error)
            return False

    def is_contradicted(self, record: object) -> bool:
        """Return whether one record is enough to say that a file has not this format. Never raises."""
        try:
            return isinstance(record, Mapping) and self.contradicts(record)
        except UNFORESEEN as error:
            self._report(error)
            return False

    def rows(self, record: object) -> Iterator[Candidate]:
        """Yield what a record says. Raises RecordError where it does not fit, or where this code fails on it."""
        if not isinstance(record, Mapping):
            raise RecordError(_("The record must be an object."))
        try:
            yield from self._rows(record)
        except RecordError as error:
            raise _in_names_of_file(error, fold_names(record)) from error
        except UNFORESEEN as error:
            self._report(error)
            raise RecordError(
                _("The record cannot be read as “%(format)s”. The server’s log says why.")
                % {"format": self.label}
            ) from error

    def _rows(self, record: Record) -> Iterator[Candidate]:
        seen = [plain_view(record)] if self.opens_cells else views(record)
        view = next(filter(self.fits, seen), None)
        if view is not None:
            found = self.read(view)
            candidates = [found] if isinstance(found, Candidate) else found
            names = fold_names(record)
            yield from (_with_names(one, names) for one in candidates) if names else candidates
        elif reason := self.explain(record):
            raise RecordError(reason)
        else:
            raise RecordError(
                _("The record is not of the format “%(format)s”: it has the keys %(keys)s.")
                % {"format": self.label, "keys": _list_keys(record) or _("of none")}
            )

    def _report(self, error: BaseException) -> None:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else ""
        _log_once(self.name, type(error).__name__, place)


@lru_cache(maxsize=256)
def _log_once(name: str, error: str, place: str) -> None:
    """Log that the code of a format failed. A file may have a million such rows, and rows are private."""
    logger.error("The format %s failed on a record: %s at %s", name, error, place)


def _with_names(candidate: Candidate, folded: Mapping[str, str]) -> Candidate:
    """Return a candidate with the keys of its metadata as they are in the file."""
    names = {short: name for name, short in folded.items()}
    metadata, of_prompt = (
        said and {names.get(key, key): value for key, value in said.items()}
        for said in (candidate.metadata, candidate.prompt_metadata)
    )
    return replace(candidate, metadata=metadata, prompt_metadata=of_prompt)


def _in_names_of_file(error: RecordError, folded: Mapping[str, str]) -> RecordError:
    """Return an error with the columns called as in the file, where more than their capital letters differ."""
    message, field = error.message, error.field
    for name, short in folded.items():
        if short != name.casefold():
            message = printable(name, 40).join(re.split(rf"\b{re.escape(short)}\b", message))
            field = name if field == short else field
    return RecordError(message, field)


def _list_keys(record: Record) -> str:
    """Return the first keys of a record, in quotes, and of which of them the value is null."""
    return ", ".join(
        f"“{printable(str(key), 40)}”" + (_(" (null)") if value is None else "")
        for key, value in list(record.items())[:12]
    )
