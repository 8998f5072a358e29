"""The network address that a request came from."""

import ipaddress
import re

from django.conf import settings
from django.http import HttpRequest

PORT = re.compile(r"\A(?:\[([^\]]+)\]|([0-9.]+))(?::\d+)?\Z")  # some proxies write it behind the address


def find_client_address(request: HttpRequest | None) -> str:
    """Return the address of the client, or of its network for IPv6; empty if it is unknown.

    Each of the WHETSTONE_TRUSTED_PROXIES in front of the site appends the address it was called from to
    X-Forwarded-For. Entries further left are the client's own claim and are never believed.
    """
    if request is None:
        return ""
    hops = settings.TRUSTED_PROXIES
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if hops else []
    given = forwarded[-hops] if len(forwarded) >= hops > 0 else request.META.get("REMOTE_ADDR", "")
    try:
        address = ipaddress.ip_address(PORT.sub(r"\1\2", given.strip()))
    except ValueError:
        return ""
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))  # one customer's network
    return str(address)
