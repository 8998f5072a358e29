"""Addresses of endpoints: which hosts the site allows, and which variable of its environment holds the key of each.

WHETSTONE_ENDPOINTS names them: `api.example.com`, or `api.example.com=EXAMPLE_KEY`. A key goes to its own host and to
no other one, and is never stored. A host that is named with its port may be in the site's own network, and may speak
plain HTTP there.
"""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings as site
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.sources.errors import FileError
from annotate.sources.remote import public_address
from primitives.text import printable

PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Place:
    """An address that was checked. `key` is empty where the site has none for its host."""

    scheme: str
    host: str
    port: int
    path: str
    key: str
    is_trusted: bool

    def connect_to(self) -> str:
        """Return the network address to connect to. Raises RefusalError if it is not public, and not trusted."""
        if self.is_trusted:
            return self.host
        try:
            return public_address(self.host, self.port)
        except FileError as error:
            raise RefusalError(str(error), "url") from error


def find_place(url: str) -> Place:
    """Return what an endpoint's URL stands for. Raises RefusalError if the site does not allow it."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise RefusalError(_("This is not an address."), "url") from error
    host = (parts.hostname or "").casefold()
    if parts.scheme not in PORTS or not host or parts.username is not None or parts.query or parts.fragment:
        raise RefusalError(_("Write an address such as https://api.example.com/v1."), "url")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise RefusalError(_("This is not an address."), "url")
    allowed = _allowed()
    is_trusted = f"{host}:{port}" in allowed
    if not is_trusted and (host not in allowed or parts.scheme != "https" or port != PORTS["https"]):
        sentence = _(
            "This site uses no endpoint at “%(host)s”. Its keeper can allow it (WHETSTONE_ENDPOINTS)."
        )
        raise RefusalError(sentence % {"host": printable(f"{host}:{port}", 80)}, "url")
    variable = allowed[f"{host}:{port}" if is_trusted else host]
    return Place(parts.scheme, host, port, parts.path.rstrip("/"), _read_key(host, variable), is_trusted)


def _read_key(host: str, variable: str) -> str:
    """Return the key for a host, "" where it has none. Raises RefusalError, without the key, if it cannot be sent."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if not (key.isascii() and key.isprintable()) or " " in key:
        sentence = _("This site’s key of “%(host)s” has characters that a key cannot have.")
        raise RefusalError(sentence % {"host": printable(host, 80)}, "url")
    return key


def has_any() -> bool:
    """Return whether the site allows any endpoint."""
    return bool(site.ENDPOINTS)


def _allowed() -> dict[str, str]:
    """Map each allowed host, perhaps with its port, to the variable that holds its key."""
    entries = (entry.partition("=") for entry in site.ENDPOINTS)
    return {host.strip().casefold(): variable.strip() for host, _sign, variable in entries}
