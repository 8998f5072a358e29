"""Upload handlers: large bodies are refused before any of them is read, and a full disk is told.

Django parses a form, and writes its files to disk, as soon as the CSRF check looks for its token. That is before any
view can ask who is sending, or say what went wrong.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler, TemporaryFileUploadHandler
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from annotate.models import Role, User
from annotate.people.access import find_membership

IMPORTS = ("import", "api-imports", "bring-policy")  # names of the addresses that take files
DISCARDED = 32 * 1024 * 1024  # bytes of a refused body
CHUNK = 64 * 1024
FORM_FIELDS = 64 * 1024  # bytes that an import may add to its file: names, boundaries, other fields


class ImportsOnly(FileUploadHandler):
    """Lets a file pass only where an admin of a project imports one."""

    def handle_raw_input(
        self,
        input_data: IO[bytes],
        META: dict[str, Any],
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        """Raise RequestDataTooBig if the body is longer than this address takes from this user."""
        if content_length > _most_bytes(self.request):
            raise RequestDataTooBig(_("The body is larger than this address takes."))

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None


class NoRoomError(SuspiciousOperation):
    """The server could not write a file to its disk. Answered by `views.errors.bad_request`."""


class TemporaryFile(TemporaryFileUploadHandler):
    """Django's own handler for large files. Raises NoRoomError where that would be a server error."""

    def new_file(self, *args: Any, **options: Any) -> None:
        try:
            super().new_file(*args, **options)
        except OSError as error:
            raise NoRoomError from error

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        try:
            super().receive_data_chunk(raw_data, start)
        except OSError as error:
            raise self._give_up() from error

    def file_complete(self, file_size: int) -> Any:
        try:
            return super().file_complete(file_size)
        except OSError as error:
            raise self._give_up() from error

    def _give_up(self) -> NoRoomError:
        """Delete the file. Closing it tries to write what is left, and fails once more."""
        with suppress(OSError):
            self.file.close()
        return NoRoomError()


class RefusedBodyMiddleware:
    """Reads a refused body to its end, and keeps nothing of it.

    A server that closes a connection with unread data resets it, so that the client sees a broken pipe, or the
    proxy a bad gateway, instead of the sentence. What is longer than DISCARDED is cut off all the same.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 413:
            left = DISCARDED
            with suppress(OSError):  # the client went away
                while left > 0 and (part := request.read(CHUNK)):
                    left -= len(part)
        return response


def _most_bytes(request: HttpRequest | None) -> int:
    small: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0
    match, user = getattr(request, "resolver_match", None), getattr(request, "user", None)
    if match is None or match.view_name not in IMPORTS or not isinstance(user, User):
        return small
    membership = find_membership(user, match.kwargs["slug"])
    if membership is None or membership.role != Role.ADMIN:
        return small
    return int(settings.IMPORT_LIMIT) + FORM_FIELDS
