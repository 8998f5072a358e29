"""The reader's own time zone, which their browser names in a cookie: pages write times in it, and days end by it."""

from collections.abc import Callable
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

COOKIE = "timezone"


@cache
def known_zones() -> frozenset[str]:
    """Return the names of all regions' time zones, read from disk once.

    A name from outside is a path, and part of a query, until it is one of them.
    """
    return frozenset(name for name in available_timezones() if "/" in name) | {"UTC"}


class TimeZoneMiddleware:
    """Activates the reader's zone for pages. Programs read the API in the site's zone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get(COOKIE, "")
        if request.path_info.startswith("/api/") or name not in known_zones():
            return self.get_response(request)
        with timezone.override(ZoneInfo(name)):
            return self.get_response(request)
