"""Errors of records: one for whatever makes a record of a file unusable."""

from annotate.errors import RefusalError


class RecordError(RefusalError):
    """A record that does not fit its format. The message says why, and `field` names the key if there is one."""
