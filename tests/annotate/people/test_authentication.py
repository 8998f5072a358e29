"""Every door for passwords: what a guesser gets, and what the owner of the account still can do."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core import signing
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from annotate.models import Attempts
from annotate.people.addresses import find_client_address
from annotate.people.authentication import (
    ANYWHERE,
    COOKIE,
    MOST_ACCOUNTS,
    KnownBrowserMiddleware,
    remember_browser,
)
from annotate.people.throttle import Throttle

pytestmark = pytest.mark.once  # no query is special to a database

CHANGED = {"username": "olive", "password": "another password"}
DOORS = ["/login/", "/admin/login/"]


def sign_in(client: Client, name: str = "olive", *, door: str = "/login/", **extra):
    return client.post(door, {"username": name, "password": "password"}, **extra)


def guess(times: int = 10, client: Client | None = None, *, door: str = "/login/", **extra) -> None:
    for _ in range(times):
        (client or Client()).post(door, {"username": "olive", "password": "wrong"}, **extra)


@pytest.fixture
def keeper(owner):
    owner.is_staff = owner.is_superuser = True
    owner.save()
    return owner


# --- The limit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("guessed_at", DOORS)
def test_ten_guesses_at_one_door_close_every_door(keeper, teammate, guessed_at, door):
    guess(door=guessed_at)
    right = sign_in(Client(), "Olive", door=door)
    assert right.status_code == 200
    assert b"Too many attempts" in right.content
    assert sign_in(Client(), "toni").status_code == 302


def test_the_admin_site_uses_the_guarded_password_form(keeper, client_for):
    assert client_for(keeper).get("/admin/password_change/").url == "/password/"


def test_guesses_at_the_present_password_have_to_wait(teammate, client_for):
    client = client_for(teammate)
    new = {"new_password1": "a long phrase of hers", "new_password2": "a long phrase of hers"}
    for _ in range(10):
        client.post("/password/", {"old_password": "guess", **new})
    page = client.post("/password/", {"old_password": "password", **new})
    assert b"Too many attempts" in page.content
    teammate.refresh_from_db()
    assert teammate.check_password("password")


def test_the_present_password_gives_its_attempts_back(teammate, client_for):
    client = client_for(teammate)
    for _ in range(3):
        for guess in (*["guess"] * 4, "password"):  # which is right; the new one is not
            page = client.post(
                "/password/", {"old_password": guess, "new_password1": "one", "new_password2": "two"}
            )
    assert b"Too many attempts" not in page.content


@pytest.mark.django_db(transaction=True)
def test_of_sixty_guesses_at_once_ten_are_checked():
    throttle = Throttle("test", limit=10, seconds=600)

    def attempt(_: int) -> bool:
        try:
            return throttle.admit("key") == 0
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(attempt, range(60))) == 10


def test_junk_names_do_not_push_out_a_count(owner):
    guess()
    Attempts.objects.bulk_create(
        Attempts(key=f"address:{number}", count=1, last_at=timezone.now()) for number in range(1500)
    )
    assert b"Too many attempts" in sign_in(Client()).content


def test_a_window_begins_with_the_last_guess(owner):
    guess()
    for minutes, status in ((9, 200), (11, 302)):
        Attempts.objects.update(last_at=timezone.now() - timedelta(minutes=minutes))
        assert sign_in(Client()).status_code == status


def test_a_wait_is_a_second_at_least(owner, monkeypatch):
    throttle, now = Throttle("short", limit=1, seconds=600), timezone.now()
    assert throttle.admit("key") == 0
    Attempts.objects.update(last_at=now)
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(seconds=599.9))
    assert throttle.admit("key") == 1


def test_a_clock_that_was_ahead_locks_nobody_out_for_good(owner):
    guess()
    Attempts.objects.update(last_at=timezone.now() + timedelta(days=3650))
    assert sign_in(Client()).status_code == 302


def test_a_success_gives_the_attempts_back(owner):
    for _ in range(3):
        guess(times=9)
        assert sign_in(Client()).status_code == 302


def test_old_counts_are_dropped(owner):
    Attempts.objects.create(key="address:old", count=1, last_at=timezone.now() - timedelta(days=2))
    guess(times=1)
    assert not Attempts.objects.filter(key="address:old").exists()


# --- The owner of the account ------------------------------------------------------------------------------------


def test_a_known_browser_passes_a_lockout_of_its_account(owner, teammate):
    browser = Client()
    assert sign_in(browser).status_code == 302
    browser.post("/logout/")
    guess()
    assert b"Too many attempts" in sign_in(Client()).content
    assert sign_in(browser).status_code == 302


def test_a_known_browser_is_limited_by_itself(owner):
    browser = Client()
    sign_in(browser)
    browser.post("/logout/")
    guess(client=browser)
    assert b"Too many attempts" in sign_in(browser).content


def test_a_browser_is_known_to_its_own_account_alone(owner, teammate):
    browser = Client()
    sign_in(browser, "toni")
    browser.post("/logout/")
    guess()
    assert b"Too many attempts" in sign_in(browser).content


@pytest.mark.parametrize("forged", ["", "olive", "W10:1:x", "signed for something else"])
def test_a_forged_cookie_knows_no_account(owner, forged):
    guess()
    browser = Client()
    account = signing.loads(remembered(owner), salt=COOKIE)
    browser.cookies[COOKIE] = signing.dumps(account, salt="other") if forged.startswith("signed") else forged
    assert b"Too many attempts" in sign_in(browser).content


def test_a_browser_is_a_stranger_again_after_a_reset(owner):
    browser = Client()
    browser.cookies[COOKIE] = remembered(owner)
    owner.set_password("another password")
    owner.save()
    guess()
    assert b"Too many attempts" in browser.post("/login/", CHANGED).content


def test_a_browser_stays_known_after_a_change_of_password(owner):
    browser = Client()
    sign_in(browser)
    new = {"new_password1": "another password", "new_password2": "another password"}
    browser.post("/password/", {"old_password": "password", **new})
    browser.post("/logout/")
    guess()
    assert browser.post("/login/", CHANGED).status_code == 302


def test_a_browser_is_remembered_for_a_few_accounts(make_user):
    cookie = ""
    for number in range(MOST_ACCOUNTS + 2):
        cookie = remembered(make_user(f"user{number}"), cookie)
    _browser, *accounts = signing.loads(cookie, salt=COOKIE)
    assert len(accounts) == MOST_ACCOUNTS


def remembered(user, before="") -> str:
    """Return the cookie of a browser that the account knows, and those `before` it."""
    request = RequestFactory().get("/")
    request.COOKIES[COOKIE] = before
    remember_browser(request, user)
    return KnownBrowserMiddleware(lambda _: HttpResponse())(request).cookies[COOKIE].value


def test_the_cookie_is_not_for_scripts_and_names_nobody(owner):
    browser = Client()
    sign_in(browser)
    cookie = browser.cookies[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert "olive" not in str(signing.loads(cookie.value, salt=COOKIE))


# --- Addresses ---------------------------------------------------------------------------------------------------


def test_guesses_from_elsewhere_do_not_lock_this_address(owner, settings):
    settings.TRUSTED_PROXIES = 1
    guess(HTTP_X_FORWARDED_FOR="203.0.113.5")
    here = sign_in(Client(), HTTP_X_FORWARDED_FOR="198.51.100.7")
    assert here.status_code == 302


def test_guesses_from_everywhere_are_limited_too(owner, settings):
    settings.TRUSTED_PROXIES = 1
    for number in range(ANYWHERE.limit):
        guess(times=1, HTTP_X_FORWARDED_FOR=f"203.0.113.{number}")
    page = sign_in(Client(), HTTP_X_FORWARDED_FOR="198.51.100.7")
    assert b"Too many attempts" in page.content


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "203.0.113.5", "192.0.2.1"),  # no proxy is trusted
        (1, "203.0.113.5", "203.0.113.5"),
        (1, "1.1.1.1, 203.0.113.5", "203.0.113.5"),  # the client's own claim is not
        (2, "1.1.1.1, 203.0.113.5, 10.0.0.1", "203.0.113.5"),
        (2, "203.0.113.5", "192.0.2.1"),  # the request went round the first proxy
        (1, "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        (1, "203.0.113.5:4711", "203.0.113.5"),
        (1, "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        (1, "nonsense", ""),
    ],
)
def test_only_the_hops_of_trusted_proxies_count(settings, hops, forwarded, address):
    settings.TRUSTED_PROXIES = hops
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=forwarded)
    assert find_client_address(request) == address


def test_a_missing_address_is_a_key_like_any_other(settings):
    assert find_client_address(SimpleNamespace(META={})) == ""
