"""docs/api.md says what the API does: every example is run, in order, and its answer compared."""

import json
import re
import shlex
from argparse import ArgumentParser
from pathlib import Path
from string import Template

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.api.operations.pages import schema_file
from annotate.models import ApiToken

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
ANYTHING = "…"
FILES = {"films.jsonl": b'{"prompt": "A thriller opens:"}\n{"prompt": "A western opens:"}\n'}


def examples():
    """(command, expected answer) of each `$ curl` on the page."""
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE):
            command, _newline, answer = part.strip().partition("\n")
            if command.startswith("curl"):
                yield command, json.loads(answer)


def curl(command):
    """Do with Django's test client what curl would do; only the options that the page uses are known."""
    parser = ArgumentParser()
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("-F", dest="file")
    parser.add_argument("url")
    given = parser.parse_args(shlex.split(command)[1:])
    headers = dict(header.split(": ", 1) for header in given.headers)
    method = given.method or ("POST" if given.data else "GET")
    client, url = Client(enforce_csrf_checks=True), given.url.removeprefix("http://localhost:8000")
    if given.file:
        field, name = given.file.split("=@")
        return client.post(url, {field: SimpleUploadedFile(name, FILES[name])}, headers=headers)
    return client.generic(
        method,
        url,
        given.data or "",
        content_type=headers.pop("Content-Type", "application/x-www-form-urlencoded"),
        headers=headers,
    )


def compare(expected, found, where=""):
    if expected == ANYTHING:
        return
    if isinstance(expected, dict):
        if ANYTHING in expected:
            expected = {key: value for key, value in expected.items() if key != ANYTHING}
            found = {key: found[key] for key in expected}
        assert expected.keys() == found.keys(), where
        for key, value in expected.items():
            compare(value, found[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(expected) == len(found), where
        for position, value in enumerate(expected):
            compare(value, found[position], f"{where}.{position}")
    else:
        assert expected == found, where


def test_every_example_of_the_page_answers_as_it_says(project, owner):
    owner.user_permissions.add(Permission.objects.get(codename="add_project"))
    names = {"SITE": "http://localhost:8000", "TOKEN": ApiToken.issue(owner, "docs")[1]}
    run = 0
    for command, expected in examples():
        answer = curl(Template(command).substitute(names))
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        found = json.loads(content)
        compare(expected, found, command)
        if claim := found.get("claim"):
            names |= {"CLAIM": claim["token"]}
        names |= {"DIGEST": found["digest"]} if "digest" in found else {}
        names |= {"IMPORT": found["id"]} if "position" in found else {}
        names |= {"JOB": found["id"]} if "can_be_downloaded" in found else {}
        run += 1
    assert run >= 25


def test_the_page_lists_every_address():
    rows = re.findall(r"^\| ([A-Z]+) \| `(.*?)` \| (.*?) \| (\w+) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {(method.lower(), address, summary, scope) for method, address, summary, scope in rows}
    described = {
        (method, written(path), one["summary"], one["x-scope"])
        for path, methods in json.loads(schema_file("json", "en"))["paths"].items()
        for method, one in methods.items()
    }
    assert listed == described


def written(path):
    """Return an address of the schema as the page writes it."""
    short = path.removeprefix("/api/v1/projects/{slug}/") or "projects/SLUG/"
    short = short.removeprefix("/api/v1/")
    return re.sub(r"\{\w*?(id|token|digest|number)\}", lambda match: match[1].upper(), short)
