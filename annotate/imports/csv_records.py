"""Records of CSV before they are split: how wide and long they are, and CRs inside their cells."""

import re

from django.utils.translation import gettext as _

from annotate.errors import RefusalError

COLUMNS = 200  # of a record at most
RECORD_LINES = 10_000  # of a record at most
CHARACTERS = 8 * 1024 * 1024  # of a record of several lines
CR_IN_CELL = "\x00"  # lines that hold a NUL were refused before


class RecordTooLargeError(RefusalError):
    """A CSV record that is not split, as it would take too much memory. The message says why."""


class RecordWidth:
    """The separators, characters and lines of a CSV record, counted line by line before it is split."""

    def __init__(self, separator: str = ",") -> None:
        self.separator = separator
        # A value in quotes, with its last one if that is there.
        self.quoted = re.compile(rf'(?<![^{re.escape(separator)}])"(?:[^"]++|"")*+("?)')
        self.in_quotes = False
        self.separators = self.characters = self.lines = 0

    def add(self, line: str) -> None:
        """Take in the record's next line, or the first line of another record. Raises RecordTooLargeError."""
        if not self.in_quotes:
            self.separators = self.characters = self.lines = 0
        self.characters += len(line)
        self.lines += 1
        text = f'"{line}' if self.in_quotes else line
        at, in_quotes = 0, False
        while self.separators < COLUMNS and (value := self.quoted.search(text, at)):
            self.separators += text.count(self.separator, at, value.start())
            at, in_quotes = value.end(), not value[1]
        self.separators += text.count(self.separator, at)
        if self.separators >= COLUMNS:
            raise RecordTooLargeError(_("There are more than %(limit)s columns.") % {"limit": COLUMNS})
        if self.characters > CHARACTERS:
            raise RecordTooLargeError(
                _("The record is longer than %(limit)s characters.") % {"limit": f"{CHARACTERS:,}"}
            )
        if self.lines > RECORD_LINES:
            raise RecordTooLargeError(
                _("The record has more than %(limit)s lines.") % {"limit": f"{RECORD_LINES:,}"}
            )
        self.in_quotes = in_quotes

    def close(self) -> str:
        """Return a line that ends the record where it is."""
        line = '"\n' if self.in_quotes else "\n"
        self.in_quotes = False
        return line


def hide_inner_crs(line: str) -> str:
    """Return a line in which CRs inside cells are NULs: `csv` would end the line there."""
    body = line.rstrip("\r\n")
    return body.replace("\r", CR_IN_CELL) + line[len(body) :]


def show_inner_crs(values: list[str]) -> list[str]:
    """Return the cells of such a line as they are in the file."""
    return [value.replace(CR_IN_CELL, "\r") for value in values]
