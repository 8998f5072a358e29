"""The API against hostile values: every answer is one of its own, below 500, and nothing is stored."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import get_resolver

from annotate.forms.exports import ExportForm
from annotate.judgments import judging
from annotate.models import ApiToken, Comparison, Judgment, Policy, Project, Prompt, Snapshot
from annotate.queueing import queue
from tests.factories import TIE
from tests.variants import slow_but

API = "/api/v1/projects/reviews/"
HUGE = 10**30


def nested(depth: int) -> Any:
    return json.loads("[" * depth + "]" * depth)


VALUES = [
    None, True, "", "x", "\x00", "\ud800", "nan", "1e400", "-1", str(HUGE), "9" * 5_000, -1, 0, 2**63 - 1, 2**63, HUGE,
    float("inf"), float("nan"), 1e308, [], {}, [[]], [None], [HUGE], [str(HUGE)], ["\x00"], {"\x00": 1}, {"\ud800": {}},
    {"a": HUGE}, nested(34), nested(400), "x" * 3_000,
]  # fmt: skip
FIELDS = {
    "prompts/": ["prompts"],
    "comparisons/": ["comparisons"],
    "judgments/": [
        "token", "verdict", "preferred_id", "strength", "reasons", "criteria", "rationale", "seconds",
    ],
    "snapshots/": [
        "ties", "votes", "weights", "smoothing", "min_judgments", "include_gold", "include_too_fast", "policies",
    ],
    "next/": [],
}  # fmt: skip
ROWS = {
    "prompts/": ({"prompt": "x"}, ["prompt", "id", "metadata", "\ud800"]),
    "comparisons/": (
        {"prompt": "x", "completion_a": "a", "completion_b": "b"},
        ["completion_a", "policy_b", "gold", "x"],
    ),
}
QUERY = [
    "",
    "x",
    "\x00",
    "-1",
    "0",
    str(HUGE),
    "9" * 5_000,
    "nan",
    "0001-01-01",
    "9999-12-31",
    "\u202e",
    "x" * 3_000,
]
SOME_QUERY = ["x", "\x00", str(HUGE)]
CURSORS = [
    "p=abc",
    "p=%00",
    "p=1e5",
    "p=nan",
    f"p={HUGE}",
    "p=-1",
    "p=",
    "o=x",
    "r=x",
    "p=%EF%BC%91",
]
BODIES = [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"\xef\xbb\xbf{}", b"[" * 924, b"[" * 100_000, b'{"a":' * 990,
    b"9" * 5_000, b"1e999", b'"' + b"\\" * 9_999, b"[" + b"{}," * 300_000 + b"{}]",
]  # fmt: skip


@pytest.fixture
def client(owner: Any) -> Client:
    token = ApiToken.issue(owner, "a test")[1]
    return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def send(client: Client) -> Callable[[str, Any], Any]:
    def send(path: str, body: Any) -> Any:
        sent = body if isinstance(body, bytes) else json.dumps(body)
        return client.post(f"{API}{path}", sent, content_type="application/json")

    return send


def assert_sane(answer: Any, told: object) -> None:
    assert answer.status_code < 500, told
    if answer.status_code >= 400:
        assert {"error", "field"} <= answer.json().keys(), told
        assert len(answer.content) < 2_000, told


def refused(answer: Any, told: object = "") -> bool:
    assert_sane(answer, told)
    return bool(answer.status_code >= 400)


@pytest.mark.parametrize("path", slow_but(FIELDS, "judgments/"))
def test_no_value_of_a_field_is_a_server_error(project, make_comparisons, owner, send, path):
    make_comparisons(1)
    token = str(queue.claim(project, owner).token)
    base = {"token": token, "verdict": "tie"} if path == "judgments/" else {}
    for field in FIELDS[path]:
        for value in VALUES:
            assert_sane(send(path, {**base, field: value}), (field, str(value)[:40]))
    for body in BODIES:
        assert_sane(send(path, body), body[:40])


@pytest.mark.parametrize("path", slow_but(ROWS, "comparisons/"))
def test_what_of_a_row_is_acknowledged_is_stored(project, send, path):
    row, fields = ROWS[path]
    for field in fields:
        for value in [*VALUES, {"x": nested(31)}, {"x": nested(32)}, {"x": "y" * 70_000}]:
            before = Prompt.objects.count(), Comparison.objects.count()
            answer = send(path, {path[:-1]: [{**row, field: value}]})
            if not refused(answer, (field, str(value)[:40])):
                made = answer.json()["made"]
                assert sum(made.values()) >= 1
                after = before[0] + made["prompts"], before[1] + made["pairs"] + made["gold"]
                assert (Prompt.objects.count(), Comparison.objects.count()) == after


def test_an_infinite_number_is_refused_naming_its_place(send):
    body = b'{"prompts": [{"prompt": "INF", "metadata": {"x": 1e999}}, {"prompt": "OK"}]}'
    answer = send("prompts/", body)
    assert (answer.status_code, answer.json()["field"]) == (400, "prompts.0.metadata.x")
    assert not Prompt.objects.exists()


def paths() -> Iterator[str]:
    """Every address of the API, from its URLs."""
    parts = [one for one in get_resolver().url_patterns if str(one.pattern) == "api/v1/"]
    yield from (str(one.pattern) for part in parts for one in part.url_patterns)


@pytest.mark.parametrize(
    "values", [pytest.param(QUERY, marks=pytest.mark.slow), SOME_QUERY], ids=["all", "some"]
)
def test_no_query_is_a_server_error(project, make_comparisons, client, values):
    make_comparisons(1)
    lists, pairs = ("prompts/", "comparisons/", "judgments/"), ("pairs/", "pairs.csv")
    names = {
        "cursor": lists[:1],
        "page_size": lists[:1],
        "history": lists[2:],
        "person": lists,
        "format": lists,
    }
    names |= dict.fromkeys(ExportForm.base_fields, pairs[:1]) | {"\x00": pairs}
    for name, of in names.items():
        for value in values:
            for path in of:
                assert_sane(client.get(f"{API}{path}", {name: value}), (path, name, value[:40]))


@pytest.mark.parametrize("cursor", CURSORS)
def test_a_cursor_that_nobody_gave_is_refused_by_name(project, make_comparisons, client, cursor):
    answer = client.get(f"{API}comparisons/", {"cursor": b64encode(cursor.encode()).decode()})
    assert (answer.status_code, answer.json()["field"]) == (400, "cursor")


PIECES = ["x", str(HUGE), "%00", "%ff", "..", "a" * 3_000]


@pytest.mark.once
@pytest.mark.parametrize(
    "pieces", [pytest.param(PIECES, marks=pytest.mark.slow), PIECES[1:3]], ids=["all", "some"]
)
def test_no_address_or_method_answers_in_another_shape(project, client, pieces):
    addresses = ["/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/projects/", "/api/v1/nothing/"]
    for path in paths():
        addresses += ["/api/v1/" + re.sub("<[^>]*>", piece, path) for piece in pieces]
    open_to_all = {"/api/v1/projects/", "/api/v1/my/invitations/", "/api/v1/schema/", "/api/v1/docs/"}
    for address in dict.fromkeys(addresses):
        for method in ("GET", "POST", "BREW"):
            answer = client.generic(method, address)
            assert 400 <= answer.status_code < 500 or address in open_to_all, (method, address[:60])
            if address not in ("/api/v1/docs/", "/api/v1/schema/"):  # no JSON
                assert_sane(answer, (method, address[:60]))
    refusals = {"text/xml": 415, "multipart/form-data; boundary=x": 415, "application/json; charset=x": 400}
    for content_type, status in refusals.items():
        answer = client.generic("POST", f"{API}prompts/", b"<", content_type=content_type)
        assert answer.status_code == status
        assert_sane(answer, content_type)
    assert_sane(client.get(API, headers={"Accept": "text/html"}), "Accept")


def test_no_page_of_a_project_fails_for_a_huge_id(project, owner, client_for):
    client = client_for(owner)
    for pattern in get_resolver().url_patterns:
        for one in getattr(pattern, "url_patterns", []):
            if "<int:" in str(one.pattern) and "api/" not in str(pattern.pattern):
                for number in (2**31, 2**63, "9" * 5_000):
                    path = (
                        str(one.pattern)
                        .replace("<slug:slug>", "reviews")
                        .replace("<path:name>", "config.json")
                    )
                    address = "/" + re.sub("<int:[^>]*>", str(number), path)
                    assert client.get(address).status_code in (302, 404, 405), address[:60]
                    assert client.post(address).status_code in (302, 404, 405), address[:60]


def test_a_snapshot_takes_only_the_projects_own_policies(project, send):
    other = Project.objects.create(slug="other", name="Other")
    foreign = Policy.objects.create(project=other, name="foreign", kind=Policy.Kind.EXTERNAL)
    for policy in (foreign.pk, 2**62):
        answer = send("snapshots/", {"policies": [project.current_policy_id, policy]})
        assert (answer.status_code, answer.json()["field"]) == (400, "policies.1")
    assert not Snapshot.objects.exists()
    assert send("snapshots/", {"policies": [project.current_policy_id]}).status_code == 201


def test_a_verdict_that_cannot_be_stored_is_not_a_verdict(project, owner, make_comparisons, send):
    make_comparisons(1)
    token = str(queue.claim(project, owner).token)
    for value in ("\x00", "\ud800"):
        answer = send("judgments/", {"token": token, "verdict": "tie", "rationale": value})
        assert (answer.status_code, answer.json()["field"]) == (400, "rationale")
    assert not Judgment.objects.exists()
    judging.record(project, owner, token, TIE)
    assert Comparison.objects.get().judged == 1


@contextmanager
def database_away() -> Iterator[None]:
    def refuse(execute: Any, *arguments: Any) -> None:
        raise OperationalError("the database is away")

    with connection.execute_wrapper(refuse):
        yield


def test_a_server_error_is_json_too(project, client):
    with database_away():
        answer = client.get(API)
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "Something went wrong on the server, and it was written to its log.",
        "field": None,
    }


@pytest.mark.parametrize("number", [2**63, HUGE], ids=["64 bits", "huge"])
@pytest.mark.parametrize(
    "path", [f"{API}judgments/?comparison", f"{API}comparisons/?prompt", "/p/reviews/comparisons/?prompt"]
)
def test_a_key_that_no_database_holds_is_refused(
    owner: Any, project: Any, client_for: Any, path: str, number: int
) -> None:
    answer = client_for(owner).get(f"{path}={number}")
    assert 400 <= answer.status_code < 500
    assert "less than or equal to" in answer.content.decode()
