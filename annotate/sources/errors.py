"""Errors of files: one for a file that cannot be read at all, one for a record of it."""

from annotate.errors import RefusalError


class FileError(RefusalError):
    """A file that cannot be read at all. The message says why."""


class RecordError(RefusalError):
    """A record that does not fit its format. The message says why, and `field` names the key if there is one."""
