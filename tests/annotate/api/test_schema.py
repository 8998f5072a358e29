"""The schema of the API describes every operation, and its examples are true to it."""

import json
from typing import Any

import jsonschema
import pytest
from django.test import Client
from django.urls import get_resolver

from annotate.api.operations.links import LINKS

SCHEMA = "/api/v1/schema/"
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    from annotate.api.operations.pages import schema_file

    return json.loads(schema_file("json", "en"))


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, described)
        for path, methods in schema["paths"].items()
        for method, described in methods.items()
    ]


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return schema["components"]["responses"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def test_the_schema_is_given_as_yaml_and_as_json(db):
    client = Client()
    plain, asked = client.get(SCHEMA), client.get(SCHEMA, {"format": "json"})
    accepted = client.get(SCHEMA, headers={"Accept": "application/json"})
    assert plain["Content-Type"] == "application/vnd.oai.openapi; charset=utf-8"
    assert plain.content.startswith(b"openapi: 3.1.0")
    assert asked["Content-Type"] == accepted["Content-Type"] == "application/json; charset=utf-8"
    assert asked.json() == accepted.json()
    assert client.get(SCHEMA, headers={"If-None-Match": plain["ETag"]}).status_code == 304
    assert client.get(SCHEMA, {"format": "xml"}).status_code == 400


def test_every_address_of_the_api_is_described(schema):
    parts = [one for one in get_resolver().url_patterns if str(one.pattern) == "api/v1/"]
    routes = {str(one.pattern) for part in parts for one in part.url_patterns}
    assert len(schema["paths"]) == len(routes) - 3  # the schema, its page, and "no such address"


def test_every_operation_says_who_what_and_how(schema):
    names = [described["operationId"] for _method, _path, described in operations(schema)]
    assert len(names) == len(set(names)) > 70
    for method, path, described in operations(schema):
        told = (method, path)
        assert described["summary"], told
        assert described["tags"][0] in {one["name"] for one in schema["tags"]}, told
        assert described["x-scope"] in ("read", "judge", "admin"), told
        assert (described["x-scope"] == "read") == (method == "get"), told
        assert {"400", "401", "403", "406"} <= described["responses"].keys(), told
        if method in ("put", "patch") or "requestBody" in described:
            assert {"413", "415"} <= described["responses"].keys(), told


def test_every_link_leads_to_an_operation(schema):
    known = {described["operationId"]: described for _method, _path, described in operations(schema)}
    for (operation, status), (parameter, _place, following) in LINKS.items():
        assert known[operation]["responses"][status]["links"].keys() >= set(following)
        for name in following:
            assert parameter in [one["name"] for one in known[name]["parameters"]], name


def test_every_example_keeps_to_its_shape(schema):
    checked = 0
    for method, path, described in operations(schema):
        parts = [resolved(schema, one) for one in described["responses"].values()]
        parts += [described["requestBody"]] if "requestBody" in described else []
        for kind, media in [item for part in parts for item in part.get("content", {}).items()]:
            if kind not in ("application/json", "application/x-ndjson"):
                continue
            assert media.get("examples"), (method, path)
            shape = {**media["schema"], "components": schema["components"]}
            for example in media["examples"].values():
                jsonschema.validate(example["value"], shape, jsonschema.Draft202012Validator)
                checked += 1
    assert checked > 300


def test_the_page_of_the_api_loads_nothing_from_elsewhere(db):
    page = Client().get("/api/v1/docs/").content.decode()
    assert 'data-schema="/api/v1/schema/?format=json"' in page
    assert "https://" not in page.replace("http://www.w3.org", "")
    assert "<script>" not in page
