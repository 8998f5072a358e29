"""The keys of the desk, and the theme."""

from typing import Any

import pytest

from annotate.errors import RefusalError
from annotate.people import keyboard

pytestmark = pytest.mark.once  # forms and pages, whatever the database


def test_the_theme_is_remembered_by_the_browser(client_for: Any, teammate: Any) -> None:
    client = client_for(teammate)
    assert 'data-theme="' not in client.get("/").content.decode().split("<head>")[0]
    response = client.post("/theme/", {"next": "/keys/"})
    assert response.url == "/keys/"
    assert 'data-theme="dark"' in client.get("/").content.decode()
    client.post("/theme/", {"next": "https://evil.example/"})
    assert 'data-theme="light"' in client.get("/").content.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_nobody_is_sent_to_another_site(client_for: Any, teammate: Any, target: str) -> None:
    assert client_for(teammate).post("/theme/", {"next": target}).url == "/"


# --- Keys -----------------------------------------------------------------------------------------------------------


def test_keys_can_be_chosen_and_reach_the_desk(client_for: Any, teammate: Any, make_comparisons: Any) -> None:
    make_comparisons(1)
    client = client_for(teammate)
    client.post("/keys/", {"a3": "q", "undo": "z", "skip": ""})
    teammate.refresh_from_db()
    chosen = keyboard.read_keys(teammate.preferences)
    assert (chosen["a3"], chosen["undo"], chosen["skip"], chosen["b3"]) == ("q", "z", "", "8")
    desk = client.get("/p/reviews/judge/").content.decode()
    assert 'value="a3" data-key="q"' in desk


def test_one_key_cannot_do_two_things(client_for: Any, teammate: Any) -> None:
    response = client_for(teammate).post("/keys/", {"a3": "8"})
    assert response.status_code == 422
    assert (
        "“8” is chosen twice: for “A is much better” and for “B is much better”." in response.content.decode()
    )
    teammate.refresh_from_db()
    assert teammate.preferences == {}


@pytest.mark.parametrize("key", ["ab", "Escape", "\x07", "F12"])
def test_what_is_not_a_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(RefusalError, match="Undo"):
        keyboard.check_keys({"undo": key})


def test_capitals_mean_the_same_key() -> None:
    assert keyboard.check_keys({"undo": "Z"}) == {"undo": "z"}


def test_keys_can_be_turned_off_and_set_back(client_for: Any, teammate: Any, make_comparisons: Any) -> None:
    make_comparisons(1)
    client = client_for(teammate)
    client.post("/keys/", {"a3": "q", "off": "on"})
    assert 'value="a3" data-key=""' in client.get("/p/reviews/judge/").content.decode()
    client.post("/keys/", {"defaults": "1"})
    assert 'value="a3" data-key="1"' in client.get("/p/reviews/judge/").content.decode()
