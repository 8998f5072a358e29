"""Files at an address: `hf://datasets/OWNER/NAME[/CONFIG][@REVISION]`, or https, from hosts that the site allows.

An address comes from a person and could name a machine of the site's own network. So each connection is made to an
address that was looked up and found public, and a redirect leads to an allowed host or nowhere.
"""

import http.client
import ipaddress
import os
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urljoin, urlsplit

import orjson
from django.utils.translation import gettext as _

from annotate.sources import lines
from annotate.sources.compression import IN_MEMORY, too_large
from annotate.sources.containers import SUFFIXES, name_suffix
from annotate.sources.errors import FileError
from primitives.sockets import PatientSocket
from primitives.text import printable

HUB = "huggingface.co"
REDIRECTS = 5
REDIRECTED = (301, 302, 303, 307, 308)
CONNECT_SECONDS = 10
PIECE = 64 * 1024
# IPv6 of the public network, its addresses that stand for one of IPv4, and those of IPv4 that protocols keep.
UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")
PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")
LISTING = 8 * 1024 * 1024  # bytes of the hub's answer about a repository
DATASET = re.compile(
    r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w./-]+?))?(?:@(?P<revision>[\w./-]+))?"
)

PART = re.compile(r"-[0-9]{5}-of-(?P<count>[0-9]{5})(?=\.)")  # of a file's name, as the hub splits large ones


def is_address(name: str) -> bool:
    """Return whether a name is an address, and not a file here."""
    return name.startswith(("hf://", "https://", "http://"))


@contextmanager
def fetched(
    address: str, hosts: Collection[str], limit: int, seconds: float
) -> Iterator[tuple[BinaryIO, str]]:
    """Yield the file at an address, and its name. Raises FileError.

    `hosts` are those allowed. One that is named with its port may be in the site's own network. `limit` bounds the
    file's bytes, and `seconds` the whole time.
    """
    download = _Download(frozenset(host.casefold() for host in hosts), time.monotonic() + seconds)
    addresses = _find_data_files(address, download) if address.startswith("hf://") else [address]
    if len(addresses) > 1:
        with _joined(addresses, download, limit) as (copy, name):
            yield copy, name
        return
    address = addresses[0]
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
        download.get(address, cast(BinaryIO, copy), limit)
        copy.seek(0)
        yield cast(BinaryIO, copy), urlsplit(address).path.rpartition("/")[2] or "file"


@contextmanager
def _joined(addresses: list[str], download: "_Download", limit: int) -> Iterator[tuple[BinaryIO, str]]:
    """Yield the parts of a split as one file of JSON Lines. They are fetched one after another, bounded together."""
    left = limit
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as joined:
        for address in addresses:
            name = urlsplit(address).path.rpartition("/")[2]
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
                download.get(address, cast(BinaryIO, copy), limit)
                copy.seek(0)
                with lines.as_lines(cast(BinaryIO, copy), name, left) as part:
                    if part.format != "jsonl":
                        raise FileError(
                            _("“%(name)s” is one of several parts, which must be Parquet or JSON Lines.")
                            % {"name": printable(name, 80)}
                        )
                    left -= _append(part.file, cast(BinaryIO, joined), left, limit)
        joined.seek(0)
        yield cast(BinaryIO, joined), f"{PART.sub('', name).partition('.')[0]}.jsonl"


def _append(part: BinaryIO, joined: BinaryIO, left: int, limit: int) -> int:
    """Append a part, its last line ended, and return how many bytes it has. Raises FileError if it has too many."""
    part.seek(0)
    size, last = 0, b"\n"
    while piece := part.read(PIECE):
        size += len(piece)
        if size > left:
            raise FileError(too_large(limit))
        joined.write(piece)
        last = piece[-1:]
    if last != b"\n":
        joined.write(b"\n")
    return size


def _find_data_files(address: str, download: "_Download") -> list[str]:
    """Return the addresses of the parts of a dataset: those of the split there is, or of the one for training."""
    match = DATASET.fullmatch(address)
    if match is None:
        raise FileError(
            _("Write the address as hf://datasets/OWNER/NAME, and behind it /CONFIG or @REVISION.")
        )
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc or HUB
    name, revision = match["name"], quote(match["revision"] or "main", safe="")
    with tempfile.TemporaryFile() as answer:
        download.get(
            f"https://{hub}/api/datasets/{name}/revision/{revision}", cast(BinaryIO, answer), LISTING
        )
        answer.seek(0)
        try:
            files = [str(one["rfilename"]) for one in orjson.loads(answer.read())["siblings"]]
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(_("The hub says nothing of this dataset that is understood.")) from error
    paths = choose_files(files, match["config"] or "")
    return [f"https://{hub}/datasets/{name}/resolve/{revision}/{quote(path)}" for path in paths]


def choose_files(files: list[str], config: str) -> list[str]:
    """Return the data file that is meant among those of a dataset, or all its parts in order.

    Raises FileError if that is not certain, or if a part is missing.
    """
    data = [path for path in files if name_suffix(path) in {*SUFFIXES.values()} - {"txt"}]
    data = [
        path for path in data if path.rpartition("/")[2] not in ("dataset_infos.json", "dataset_info.json")
    ]
    if config:
        inside = [path for path in data if path == config or path.startswith(f"{config}/")]
        data = inside or [
            path for path in data if config in path.replace(".", "/").split("/") or config == _split_of(path)
        ]
    whole = {name: list(parts) for name, parts in groupby(sorted(data), key=_whole_name)}
    if len(whole) > 1:
        whole = {name: parts for name, parts in whole.items() if "train" in name} or whole
    if not whole:
        raise FileError(_("The dataset has no file of data by this name."))
    if len(whole) == 1:
        [parts] = whole.values()
        said = PART.search(parts[0])
        if said and len(parts) != int(said["count"]):
            raise FileError(
                _("The dataset has %(found)s of %(count)s parts.")
                % {"found": len(parts), "count": int(said["count"])}
            )
        return parts
    names = ", ".join(f"“{printable(name, 80)}”" for name in list(whole)[:5])
    raise FileError(
        _("The dataset has several files (%(names)s). Name one behind the dataset.") % {"names": names}
    )


def _whole_name(path: str) -> str:
    """Return the name of the file that a part belongs to, such as data/train.parquet."""
    return PART.sub("", path)


def _split_of(path: str) -> str:
    return _whole_name(path).rpartition("/")[2].partition(".")[0]


@contextmanager
def _well_formed() -> Iterator[None]:
    """Refuse an address that `urllib` cannot take apart, in a sentence."""
    try:
        yield
    except ValueError as error:
        raise FileError(_("The address is not well formed.")) from error


class _Download:
    """A download with redirects, until a time. Each host is checked before it is asked."""

    def __init__(self, hosts: frozenset[str], until: float) -> None:
        self.hosts, self.until = hosts, until

    def get(self, address: str, copy: BinaryIO, limit: int) -> None:
        """Write what is at an address to a file. Raises FileError."""
        for _number in range(REDIRECTS):
            self._check_time()
            connection, target = self._open(address)
            with closing(connection):
                try:
                    connection.request("GET", target)
                    with connection.getresponse() as answer:
                        place = answer.headers.get("Location", "")
                        if not place or answer.status not in REDIRECTED:
                            self._take(answer, copy, limit)
                            return
                except (OSError, http.client.HTTPException) as error:
                    self._check_time()
                    raise FileError(
                        _("The file could not be fetched (%(reason)s).") % {"reason": type(error).__name__}
                    ) from error
            with _well_formed():
                address = urljoin(address, place)
        raise FileError(_("The address leads on and on."))

    def _open(self, address: str) -> tuple["_PinnedConnection", str]:
        """Return a connection to the host of an address, if it is allowed, and what to ask it for."""
        with _well_formed():
            parts = urlsplit(address)
            host, port = (parts.hostname or "").casefold(), parts.port or 443
        if parts.scheme != "https" or not host or parts.username is not None:
            raise FileError(_("An address must begin with https:// or hf://."))
        if not self._is_allowed(host, port):
            raise FileError(
                _("This site imports nothing from “%(host)s”. Who runs it can allow that host.")
                % {"host": printable(host, 80)}
            )
        is_trusted = f"{host}:{port}" in self.hosts  # who runs the site named it so, wherever it is
        place = host if is_trusted else public_address(host, port)
        connection = _PinnedConnection(host, port, place, self.until)
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        return connection, f"{path}?{query}" if query else path

    def _is_allowed(self, host: str, port: int) -> bool:
        """Return whether a host is allowed. The hub's own stores of large files belong to the hub."""
        if f"{host}:{port}" in self.hosts or (host in self.hosts and port == 443):
            return True
        return HUB in self.hosts and port == 443 and host.endswith((f".{HUB}", ".hf.co"))

    def _take(self, answer: http.client.HTTPResponse, copy: BinaryIO, limit: int) -> None:
        if answer.status != 200:
            raise FileError(_("The server answered with status %(status)s.") % {"status": answer.status})
        written = 0
        while part := answer.read(PIECE):
            written += len(part)
            if written > limit:
                raise FileError(too_large(limit))
            self._check_time()
            copy.write(part)

    def _check_time(self) -> None:
        if time.monotonic() >= self.until:
            raise FileError(_("Fetching the file took too long. Download it, and import it from there."))


def public_address(host: str, port: int) -> str:
    """Return an address of a host on the public network. Raises FileError if it has another one."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise FileError(_("There is no host “%(host)s”.") % {"host": printable(host, 80)}) from error
    if not found or not all(_is_public(one.partition("%")[0]) for one in found):
        raise FileError(_("“%(host)s” is not on the public network.") % {"host": printable(host, 80)})
    return sorted(found, key=lambda one: ":" in one)[0]


def _is_public(address: str) -> bool:
    """Return whether an address is one of the public network, and leads to no other one by a gateway of IPv6."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found in NAT64:  # as networks without IPv4 name public hosts
            return _is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
        if found not in UNICAST or found.sixtofour or found.teredo:
            return False
    return found.is_global and not found.is_multicast and found not in PROTOCOLS


class _PinnedConnection(http.client.HTTPSConnection):
    """A connection to an address that was checked, under the name of its host, which is read until a time."""

    def __init__(self, host: str, port: int, address: str, until: float) -> None:
        super().__init__(host, port, timeout=CONNECT_SECONDS, context=ssl.create_default_context())
        self.address, self.until = address, until

    def connect(self) -> None:
        plain = socket.create_connection((self.address, self.port), self.timeout)
        try:
            found = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]
        except BaseException:
            plain.close()
            raise
        self.sock: Any = PatientSocket(found, self.until)
