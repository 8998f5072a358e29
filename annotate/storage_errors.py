"""Errors of the server's disk and database, told apart: what can be said in a sentence, and what passes by itself."""

import errno
import sqlite3

from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _

from annotate.errors import RefusalError


class StorageError(RefusalError):
    """The server could not store something. The message says what to do."""


def storage_error(error: BaseException) -> StorageError:
    """Return the error for an upload that could not be stored, with the storage's reason."""
    return _explain_storage(
        error,
        _("The server could not store the file (%(reason)s). Ask who runs this site, then upload it again."),
    )


def storing_error(error: BaseException) -> StorageError:
    """Return the error for a file that a server writes by itself and could not store, with the storage's reason."""
    return _explain_storage(
        error, _("The server could not store the file: %(reason)s. Ask who runs this site, then try again.")
    )


def _explain_storage(error: BaseException, sentence: str) -> StorageError:
    if is_disk_full(error):
        return StorageError(explain_failure(error))
    return StorageError(sentence % {"reason": getattr(error, "strerror", None) or type(error).__name__})


def explain_failure(error: BaseException) -> str:
    """Return why work that a server does by itself failed: for want of room, or for something that its log tells."""
    if is_disk_full(error):
        return _(
            "The server’s disk is full. Nothing was lost. Ask who runs this site to make room, then try again."
        )
    return _("Something went wrong on the server, and it was written to its log.")


def is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    sqlstate, sqlite = _codes(error)
    return sqlstate == "53100" or sqlite == sqlite3.SQLITE_FULL


def will_pass(error: BaseException) -> bool:
    """Return whether the database was away, busy or short of something: the next step may succeed."""
    if not isinstance(error, OperationalError | InterfaceError | sqlite3.OperationalError):
        return False
    sqlstate, sqlite = _codes(error)
    if sqlite is not None:
        return sqlite & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR)
    # Connections, deadlocks, resources, locks, a shutdown; without a code the connection is lost.
    return sqlstate is None or sqlstate[:2] in ("08", "40", "53", "55", "57")


def _codes(error: BaseException) -> tuple[str | None, int | None]:
    """Return the driver's codes for a database error: PostgreSQL's SQLSTATE, and SQLite's."""
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    return getattr(cause, "sqlstate", None), getattr(cause, "sqlite_errorcode", None)
