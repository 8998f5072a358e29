"""The one door for passwords. Every form that signs a user in goes through `ThrottledBackend`.

A wrong password costs an attempt of the account at that address, and one of the account as a whole. A browser in
which the account has signed in before counts for itself alone, so strangers cannot lock its owner out of it.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import ngettext

from annotate.models import User
from annotate.people.addresses import find_client_address
from annotate.people.throttle import Throttle

AT_ADDRESS = Throttle("address", limit=10, seconds=600)  # of one account, from one address
ANYWHERE = Throttle("account", limit=100, seconds=3600)  # of one account, from browsers it does not know
AT_BROWSER = Throttle("browser", limit=10, seconds=600)  # of one account, in a browser it knows
OWN_PASSWORD = Throttle("password", limit=10, seconds=600)  # of a signed-in user about to choose a new one

COOKIE = "known"
COOKIE_SECONDS = 60 * 60 * 24 * 365
MOST_ACCOUNTS = 8  # that one browser is remembered for


class TooManyAttemptsError(ValidationError):
    """Every attempt is used up. The sentence is for the form that asked."""

    def __init__(self, seconds: int) -> None:
        minutes = seconds // 60 + 1
        sentence = ngettext(
            "Too many attempts: try again in %d minute.",
            "Too many attempts: try again in %d minutes.",
            minutes,
        )
        super().__init__(sentence % minutes, code="throttled")


class ThrottledBackend(ModelBackend):
    """Django's accounts, with a limit on wrong passwords."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        """Return the account if the password is right. Raise TooManyAttemptsError before looking if none is left."""
        if username is None or password is None:
            return None
        account = _digest(username)
        browser, accounts = _read_cookie(request)
        named = User.objects.filter(username=username).first()
        if named is not None and _entry(named) in accounts:
            limits = [(AT_BROWSER, f"{account} {browser}")]
        else:
            limits = [(AT_ADDRESS, f"{account} {find_client_address(request)}"), (ANYWHERE, account)]
        for throttle, key in limits:
            if wait := throttle.admit(key):
                raise TooManyAttemptsError(wait)
        user = super().authenticate(request, username=username, password=password, **kwargs)
        if user is not None:
            for throttle, key in limits:
                throttle.forget(key)
        return user


def remember_browser(request: HttpRequest, user: User, **_signal: Any) -> None:
    """Let the answer to this request carry the cookie by which the account knows its browser.

    Receives `user_logged_in`, which every way to sign in sends, and is called when a password is changed.
    """
    browser, accounts = _read_cookie(request)
    kept = [_entry(user), *(other for other in accounts if other != _entry(user))][:MOST_ACCOUNTS]
    request.known_browser = [browser, *kept]  # type: ignore[attr-defined]


class KnownBrowserMiddleware:
    """Sets the cookie that `remember_browser` asked for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        known = getattr(request, "known_browser", None)
        if known:
            response.set_cookie(
                COOKIE,
                signing.dumps(known, salt=COOKIE),
                max_age=COOKIE_SECONDS,
                httponly=True,
                samesite="Lax",
                secure=settings.SESSION_COOKIE_SECURE,
            )
        return response


def _read_cookie(request: HttpRequest | None) -> tuple[str, list[str]]:
    """Return the browser's id, a new one if it has none, and the accounts that know it."""
    cookie = request.COOKIES.get(COOKIE, "") if request is not None else ""
    try:
        browser, *accounts = signing.loads(cookie, salt=COOKIE, max_age=COOKIE_SECONDS)
    except (signing.BadSignature, ValueError):
        return secrets.token_urlsafe(12), []
    return browser, accounts


def _entry(user: User) -> str:
    """Return the cookie's entry for an account. It ends with the password: a browser with the old one is unknown."""
    return f"{_digest(user.username)[:12]}{user.get_session_auth_hash()[:20]}"


def _digest(username: str) -> str:
    """Return a key for an account name, whatever its case. Neither rows nor cookies name accounts in clear."""
    return hashlib.sha256(username.casefold().encode("utf-8", "surrogatepass")).hexdigest()[:32]
