"""A push to a hub: one commit of the folder with its card, and a token that is kept nowhere."""

import json

import pytest
from django.core.management import CommandError, call_command
from huggingface_hub import constants

from annotate.models import TrailEntry
from tests.annotate.exports import hub as fake
from tests.local_server import serving

pytestmark = pytest.mark.once

TOKEN = "hf_secret"


@pytest.fixture
def hub(monkeypatch):
    with serving(fake.Hub(TOKEN)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        yield hub


def test_a_button_and_a_command_push_the_same(project, plain, researcher, client_for, hub, monkeypatch):
    client = client_for(researcher)
    given = {"repository": "ours/pairs", "token": TOKEN, "test": "50", "salt": "s"}
    answer = client.post("/p/reviews/export/push/", given, follow=True)
    assert f"{hub.address}/datasets/ours/pairs" in answer.content.decode()
    assert hub.private["ours/pairs"]
    files = hub.files["ours/pairs"]
    assert set(files) == {"README.md", "data/train.parquet", "data/test.parquet"}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    call_command("export", "reviews", "--push", "ours/again", "--test", "50", "--salt", "s")
    assert hub.private["ours/again"]
    call_command("export", "reviews", "--push", "ours/shown", "--public")
    client.post("/p/reviews/export/push/", given | {"repository": "ours/shown-too", "public": "on"})
    assert not hub.private["ours/shown"]
    assert not hub.private["ours/shown-too"]
    assert hub.files["ours/again"]["data/train.parquet"] == files["data/train.parquet"]
    client.post("/p/reviews/export/push/", given | {"test": ""})  # a part that is gone does not stay
    assert set(files) == {"README.md", "data/train.parquet"}
    kept = json.dumps(list(TrailEntry.objects.values("target", "details", "who_name")))
    assert TOKEN not in kept
    assert "ours/pairs on the hub" in kept


def test_a_refused_push_says_why_in_a_sentence(project, plain, researcher, client_for, hub, monkeypatch):
    client = client_for(researcher)
    for given, says in {
        ("ours/pairs", "wrong"): "The hub does not know this token.",
        ("theirs/pairs", TOKEN): "This token may not write to “theirs/pairs”.",
        ("pairs", TOKEN): "Write the repository as OWNER/NAME.",
        ("../..", TOKEN): "is not a name of a repository",
        ("ours/pairs", ""): "This field is required.",
    }.items():
        answer = client.post(
            "/p/reviews/export/push/", dict(zip(("repository", "token"), given, strict=True))
        )
        page = answer.content.decode()
        assert (answer.status_code, says in page) == (422, True)
        assert TOKEN not in page
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(CommandError, match="The hub could not be reached"):
        call_command("export", "reviews", "--push", "ours/pairs")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CommandError, match=r"Give a token .* \(HF_TOKEN\)"):
        call_command("export", "reviews", "--push", "ours/pairs")
