"""Mistakes in a site's settings, as a request shows them: each is told with the variable that ends it.

A page says it to the visitor, who may be the site's keeper. The log says it in one line.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.utils.http import is_same_domain
from django.utils.translation import gettext as _

from primitives.text import printable


@dataclass(frozen=True)
class Mistake:
    """A mistake for a page, in the visitor's language, and for the log."""

    page: str
    log: str


class NoProtocolError(SuspiciousOperation):
    """The site is behind HTTPS, and the proxy does not say so. Answered by `views.errors.bad_request`."""


class ProtocolMiddleware:
    """Refuses a request without X-Forwarded-Proto, where a redirect to HTTPS would come back for ever."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        told_by = settings.SECURE_PROXY_SSL_HEADER
        if (
            settings.SECURE_SSL_REDIRECT
            and told_by
            and told_by[0] not in request.META
            and not request.is_secure()
        ):
            raise NoProtocolError
        return self.get_response(request)


def find_mistake(request: HttpRequest, error: Exception | None = None) -> Mistake | None:
    """Return the mistake behind a refused request. Without an error, it is a form that was refused."""
    if isinstance(error, DisallowedHost):
        return _unknown_host(request)
    if isinstance(error, NoProtocolError):
        return _no_protocol()
    return _wrong_origin(request) if error is None else None


def _unknown_host(request: HttpRequest) -> Mistake:
    host = printable(request.META.get("HTTP_HOST", ""), 100)
    page = _(
        "This site does not answer to the name “%(host)s”. If that is one of its names, its keeper must add it to "
        "WHETSTONE_HOSTS."
    )
    return Mistake(
        page % {"host": host}, f"Unknown host “{host}”: if it is this site's, add it to WHETSTONE_HOSTS."
    )


def _no_protocol() -> Mistake:
    return Mistake(
        _(
            "This site is reached by HTTPS, and the proxy in front of it does not say so. Its keeper must let the "
            "proxy send X-Forwarded-Proto, or set WHETSTONE_HTTPS=off."
        ),
        "WHETSTONE_HTTPS is on, and a request came without X-Forwarded-Proto: let the proxy send it, or set "
        "WHETSTONE_HTTPS=off.",
    )


def _wrong_origin(request: HttpRequest) -> Mistake | None:
    """Return the mistake if a form came from an origin that is not the site's."""
    origin = request.META.get("HTTP_ORIGIN", "")
    own = f"{request.scheme}://{request.get_host()}"
    try:
        given = urlsplit(origin)
    except ValueError:  # such as http://[
        return None
    if origin in ("", "null", own) or _is_trusted(given):
        return None
    words = {"origin": printable(origin, 100), "own": printable(own, 100)}
    if given.netloc == request.get_host():  # the scheme alone is wrong: TLS ends at a proxy
        page = _(
            "It came from %(origin)s, and the site takes itself for %(own)s. Its keeper must set WHETSTONE_HTTPS=on, "
            "and let the proxy send X-Forwarded-Proto."
        )
        remedy = "set WHETSTONE_HTTPS=on, and let the proxy send X-Forwarded-Proto."
    else:
        page = _(
            "It came from %(origin)s, and the site takes itself for %(own)s. If both are this site, its keeper must "
            "add the first to WHETSTONE_ORIGINS, or let the proxy pass the Host header on."
        )
        remedy = "if both are this site, add the first to WHETSTONE_ORIGINS."
    log = "A form came from %(origin)s, and this site takes itself for %(own)s: "
    return Mistake(page % words, log % words + remedy)


def _is_trusted(given: SplitResult) -> bool:
    """Return whether WHETSTONE_ORIGINS names this origin, or all hosts like it."""
    for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS):
        pattern = trusted.netloc.removeprefix("*")
        if trusted.scheme == given.scheme and is_same_domain(given.netloc, pattern):
            return True
    return False


class OneLine(logging.Filter):
    """Makes one line of what a request caused. A failure of the site keeps its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        status = getattr(record, "status_code", 500)
        if not record.name.startswith(("django.security", "django.request")) or status >= 500:
            return True
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = record.exc_text = None
        is_form = record.name == "django.security.csrf"
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest) and (is_form or isinstance(error, Exception)):
            mistake = find_mistake(request, error if isinstance(error, Exception) else None)
            if mistake is not None:
                record.msg, record.args = mistake.log, None
        return True
