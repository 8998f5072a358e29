"""Every form of every page and every body of the API, filled in by a fuzzer: no answer is a server error, and the
pages stay as they were for the next visitor."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.test.client import MULTIPART_CONTENT, encode_multipart

from tests.security.addresses import addresses
from tests.security.conftest import Tally
from tests.security.site import Site

KIND = "hostile input: forms and API bodies"

# As bytes, since a browser of the attacker's own sends what it likes.
HOSTILE = [
    *(b"\x00", b"a\x00b", b"\xed\xa0\x80", b"\xff\xfe", b"9" * 5000, b"1e999", b"NaN", b"-1", b"9" * 23),
    *(
        b"a" * 300_000,
        b"\xe2\x80\xae\xe2\x81\xa6",
        b"../../etc/passwd",
        b"~root",
        b"%00",
        b"\r\nSet-Cookie: x=1",
        b"",
    ),
    *(
        b'{"a": "\\ud800"}',
        b'{"a": "\\u0000"}',
        b'{"a": 1e999}',
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ),
    *(b'{"a":' * 990 + b"1" + b"}" * 990, b"[" * 5000),
]
BODIES = [
    *(b"", b"null", b"[]", b"1e999", b'"\\ud800"', b"{", b"\x00", b"\xff", b"[" * 5000, b"9" * 5000),
    *(b'{"a":' * 990 + b"1" + b"}" * 990, b'{"\\ud800": 1}', b'{"\\u0000": 1}', b'{"slug": NaN}'),
]
VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        10**30,
        1.5,
        "",
        "\x00",
        "\ud800",
        "x" * 10_001,
        [],
        {},
        [[]],
        {"a": {"b": []}},
        [None],
    ),
    ["\ud800"],
]
FIELDS = [
    *(
        "prompts",
        "comparisons",
        "token",
        "verdict",
        "preferred_id",
        "strength",
        "reasons",
        "criteria",
        "rationale",
    ),
    *("seconds", "policies", "smoothing", "min_judgments", "votes", "ties"),
]


class Forms(HTMLParser):
    """The forms of a page: (address, {field: value})."""

    def __init__(self, html: str, page: str) -> None:
        super().__init__()
        self.page, self.found = page, []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "form":
            self.found.append((given.get("action") or self.page, {}))
        elif tag in ("input", "select", "textarea", "button") and given.get("name") and self.found:
            self.found[-1][1].setdefault(given["name"], given.get("value") or "")


PARTS = 8  # of the addresses of the API: each is tried with hundreds of bodies


def forms_of(client: Client, site: Site) -> dict[str, dict[str, str]]:
    """Every form that this person is shown anywhere, by its address."""
    found: dict[str, dict[str, str]] = {}
    for address in addresses():
        if address.is_api:
            continue
        path = address.path(site.ours.values)
        page = client.get(path)
        if page.status_code == 200 and not page.streaming and page["Content-Type"].startswith("text/html"):
            for action, fields in Forms(page.content.decode(), path).found:
                found.setdefault(action.split("?")[0], {}).update(fields)
    return {
        path: fields
        for path, fields in found.items()
        if path not in ("/logout/", "/p/ours/settings/archive/")
    }


@pytest.mark.timeout(600)  # dozens of forms, each filled in hundreds of ways
@pytest.mark.parametrize("person", ["our admin", "our annotator"])
def test_no_form_can_be_filled_in_to_break_a_page(site: Site, tally: Tally, person: str) -> None:
    client = site.browser(person, glances=True, raise_request_exception=False)
    for path, fields in forms_of(client, site).items():
        for name in fields:
            if name in ("csrfmiddlewaretoken", "new_password1", "new_password2", "old_password"):
                continue
            for value in HOSTILE:
                body = encode_multipart("BoUnDaRyStRiNg", {**fields, name: "@@"}).replace(b"@@", value)
                answer = client.generic("POST", path, body, content_type=MULTIPART_CONTENT)
                tally.refuse(answer.status_code < 500, (path, name, value[:60], answer.status_code))
    for address in addresses():
        path = address.path(site.ours.values)
        assert client.get(path).status_code < 500, path


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("person", ["our admin", "our annotator"])
def test_no_body_breaks_the_api(site: Site, tally: Tally, person: str, part: int) -> None:
    client = site.script(person, glances=True)
    client.raise_request_exception = False
    fields = [json.dumps({name: value}).encode() for name in FIELDS for value in VALUES]
    rows = [
        json.dumps({"prompts": [{key: value}]}).encode()
        for key in ("prompt", "id", "metadata")
        for value in VALUES
    ]
    for address in list(addresses())[part::PARTS]:
        if not address.is_api or address.route == "api/v1/docs/":  # a page
            continue
        for body in (*BODIES, *fields, *rows):
            answer = client.post(address.path(site.ours.values), body, content_type="application/json")
            tally.refuse(answer.status_code < 500, (address.route, body[:60], answer.status_code))
            if answer.status_code >= 400:
                assert answer.json().keys() >= {"error", "field"}, (address.route, body[:60])


@pytest.mark.parametrize(
    "query",
    [
        "cursor=p=abc",
        "cursor=cD1hYmM=",
        "cursor=cD0lMDA=",
        "cursor=cD0xZTU=",
        "cursor=cD1uYW4=",
        "page_size=x",
    ],
)
def test_no_query_breaks_a_list(site: Site, tally: Tally, query: str) -> None:
    client = site.script("our admin", glances=True)
    client.raise_request_exception = False
    for name in ("prompts", "comparisons", "judgments"):
        for given in (query, "q=%00", "state=%ED%A0%80", "page_size=10000000000000000000000000"):
            answer = client.get(f"/api/v1/projects/ours/{name}/?{given}")
            tally.refuse(answer.status_code < 500, (name, given, answer.status_code))


def test_no_query_breaks_a_page(site: Site, tally: Tally) -> None:
    client = site.browser("our admin", glances=True, raise_request_exception=False)
    names = (
        "page",
        "q",
        "state",
        "annotator",
        "policy",
        "before",
        "after",
        "view",
        "person",
        "since",
        "like",
        "kind",
    )
    for address in addresses():
        if address.is_api or not address.of_project:
            continue
        for value in ("%00", "%ED%A0%80", "9" * 400, "-1", "abc"):
            query = "&".join(f"{name}={value}" for name in names)
            answer = client.get(f"{address.path(site.ours.values)}?{query}")
            tally.refuse(answer.status_code < 500, (address.route, value[:20], answer.status_code))
