"""Files in an S3 bucket: written whole, read by ranges, with errors that are OSErrors as those of a disk are.

Imported where WHETSTONE_STORAGE is `s3://…`, by its name in the settings. boto3 finds endpoint and credentials in its
own variables and files.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from django.core.files.base import File
from storages.backends.s3 import ReadBytesWrapper, S3Storage
from storages.utils import clean_name

from primitives.files import TookTooLongError

READ_AHEAD = 4 << 20  # bytes of one request
PART = 16 << 20  # bytes of one part of an upload, which are held
AT_ONCE = 64 << 10  # bytes of an object that count as progress
ANSWER_SECONDS = 150.0  # for one thing that is asked, with all its tries; of a file, without progress
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

T = TypeVar("T")
logger = logging.getLogger(__name__)


class BucketStorage(S3Storage):  # type: ignore[misc] # of a library without types
    """A bucket, or what is below a prefix of it. No name leads out of the prefix.

    What it is asked has a deadline as a whole, which each part of a file puts off. A time-out of the socket ends with
    each byte that arrives.
    """

    def get_default_settings(self) -> dict[str, Any]:
        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
        defaults: dict[str, Any] = super().get_default_settings()
        return defaults | {
            "file_overwrite": True,  # names are drawn, or are hashes of the content
            "endpoint_url": endpoint,
            "client_config": Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"max_attempts": 3, "mode": "standard"},
                # Servers other than Amazon's seldom have a host name for each bucket.
                s3={"addressing_style": "path" if endpoint else "auto"},
            ),
            # Its threads would hold up the end of the process.
            "transfer_config": TransferConfig(
                multipart_threshold=PART, multipart_chunksize=PART, use_threads=False
            ),
        }

    def _create_session(self) -> Any:
        """Return a session whose question for a bucket's region is never redirected: a circle would ask it for ever."""
        session = super()._create_session()
        session.events.register("before-call.s3.HeadBucket", _refuse_redirects)
        return session

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        if mode != "rb":
            raise ValueError(f"Files of a bucket are opened to be read, as bytes, not as “{mode}”.")
        return File(io.BufferedReader(Ranges(self._find(name), name, self._within), READ_AHEAD), name)

    def _find(self, name: str) -> Any:
        """Return boto's object of a file, with size, hash and time. Raises FileNotFoundError, or another OSError."""
        found = self.bucket.Object(self._normalize_name(name))
        self._within(name, lambda _moved: found.load())
        if None in (found.content_length, found.e_tag, found.last_modified):
            raise OSError(errno.EIO, _NO_STORAGE, name)
        return found

    def _save(self, name: str, content: Any) -> str:
        name = clean_name(name)
        key = self._normalize_name(name)
        options = self._get_write_parameters(key, content)
        file = ReadBytesWrapper(content)
        file.close = lambda: None  # boto closes it, and it is the caller's

        def put(moved: Moved) -> None:
            file.seek(0)
            found = self.connection.Object(self.bucket_name, key)
            found.upload_fileobj(file, ExtraArgs=options, Config=self.transfer_config, Callback=moved)

        self._within(name, put)
        return str(name)

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        delete = super().delete
        self._within(name, lambda _moved: delete(name))

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        exists = super().exists
        return bool(self._within(name, lambda _moved: exists(name)))

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the names of folders and of files in a folder."""
        listdir = super().listdir
        folders, files = self._within(path, lambda _moved: listdir(path))
        return folders, files

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return int(self._find(name).content_length)

    def get_modified_time(self, name: str) -> datetime:
        """Return when a file was written."""
        found: datetime = self._find(name).last_modified
        return found

    def _within(self, name: str, act: Callable[[Moved], T]) -> T:
        """Do what asks the storage, before its deadline. Raises OSError.

        It is done by a thread, which is left alone after that: it ends when the storage does, or with its process.
        """
        answer: Future[T] = Future()
        with told(name):
            connection = self.connection  # costs a moment, and is one for each thread
            moved = Moved()

            def work() -> None:
                self._connections.connection = connection
                try:
                    answer.set_result(act(moved))
                except BaseException as error:  # noqa: BLE001 - who waits for it raises it
                    answer.set_exception(error)

            threading.Thread(target=work, name=f"storage: {name}", daemon=True).start()
            while (left := moved.at + ANSWER_SECONDS - time.monotonic()) > 0:
                if wait([answer], left).done:
                    return answer.result()
        self._connections.connection = self._bucket = None  # the thread has it
        raise TookTooLongError(name, answer)

    def url(self, name: str | None, *_args: Any, **_options: Any) -> NoReturn:
        """Refuse: files leave through the site, which checks who asks."""
        raise NotImplementedError("Files of the storage have no address of their own.")


class Moved:
    """The time at which bytes of a file were last on their way."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def __call__(self, _bytes: int) -> None:
        self.at = time.monotonic()


class Ranges(io.RawIOBase):
    """An object of a bucket as a file that can be sought. Each read asks for these bytes of this very object."""

    def __init__(
        self, found: Any, name: str, within: Callable[[str, Callable[[Moved], bytes]], bytes]
    ) -> None:
        self._found, self._name, self._at, self._within = found, name, 0, within
        self._size, self._etag = int(found.content_length), found.e_tag

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, which may lie beyond the end, and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the object goes, and return how far that is."""
        content = self._read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        """Return the rest."""
        return self._read(self._size)

    def _read(self, most: int) -> bytes:
        wanted = min(most, self._size - self._at)
        if wanted <= 0:
            return b""
        bounds = f"bytes={self._at}-{self._at + wanted - 1}"

        def get(moved: Moved) -> bytes:
            content = bytearray()
            for chunk in self._found.get(Range=bounds, IfMatch=self._etag)["Body"].iter_chunks(AT_ONCE):
                content += chunk
                moved(len(chunk))
            return bytes(content)

        content = self._within(self._name, get)
        if len(content) != wanted:
            raise OSError(errno.EIO, "the storage sent fewer bytes than it has", self._name)
        self._at += wanted
        return content


def _refuse_redirects(params: dict[str, Any], **_other: Any) -> None:
    """Mark a request for boto as one that was redirected already."""
    params["context"]["s3_redirect"]["redirected"] = True


@contextmanager
def told(name: str) -> Iterator[None]:
    """Raise an OSError in place of boto's errors: FileNotFoundError for what is not there.

    Its words name neither the bucket nor the endpoint, as users may see them. The log does.
    """
    try:
        yield
    except ClientError as error:
        code = _find_code(error)
        if code in ("404", "NoSuchKey"):
            raise FileNotFoundError(errno.ENOENT, "the storage has no such file", name) from error
        logger.warning("The storage refused %s: %s", name, error)
        advice = _ADVICE.get(code, "")
        raise OSError(errno.EIO, f"the storage refused it ({code}{advice and '; '}{advice})", name) from error
    except (BotoCoreError, Boto3Error, KeyError) as error:
        if isinstance(error, KeyError) and not _is_raised_by_boto(error):
            raise
        logger.warning("The storage failed for %s: %s: %s", name, type(error).__name__, error)
        raise OSError(errno.EIO, _explain(error), name) from error


_NO_STORAGE = "the answer is not one of a storage; check its address"
_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    # A page of a proxy, say. Where boto misses a part of an answer, it raises KeyError.
    ((KeyError, ResponseParserError), _NO_STORAGE),
    (FlexibleChecksumError, "what the storage sent is not what was put there"),
    ((IncompleteReadError, ResponseStreamingError), "the storage sent fewer bytes than it has"),
    (
        (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError),
        "there are no credentials for the storage",
    ),
)
_LIBRARIES = ("boto3", "botocore", "s3transfer", "storages")
_LONGEST_CODE = 60  # characters
_CREDENTIALS = (
    *("401", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"),
    *("SignatureDoesNotMatch", "TokenRefreshRequired"),
)
_FULL = ("507", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
_REDIRECTS = ("301", "302", "307", "308", "PermanentRedirect", "TemporaryRedirect")
# What is to be looked at where the storage refuses with this code. An answer to HEAD has a status alone.
_ADVICE = {
    **dict.fromkeys(_CREDENTIALS, "look at its credentials"),
    **dict.fromkeys(_FULL, "it is full"),
    **dict.fromkeys(_REDIRECTS, "check its address and region"),
    "400": "look at its address, region and credentials",
    "403": "look at its credentials, and at the clock of this machine",
    "RequestTimeTooSkewed": "set the clock of this machine",
}


def _find_code(error: ClientError) -> str:
    """Return the code of a refusal, or else its HTTP status. The server writes the code, so it is cut."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "no reason")
    code = " ".join(str(error.response.get("Error", {}).get("Code") or status).split())
    return code if len(code) <= _LONGEST_CODE else f"{code[:_LONGEST_CODE]}…"


def _is_raised_by_boto(error: Exception) -> bool:
    """Return whether boto or its storage raised an error, and not a file of ours that it was reading."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES


def _explain(error: Exception) -> str:
    """Return why boto failed, where no answer says it."""
    return next((why for kind, why in _REASONS if isinstance(error, kind)), "the storage cannot be reached")
