"""Completions of several messages: formats without a place for them leave their pairs out, and count them."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from annotate.exports import account
from annotate.exports.bundle import open_download
from annotate.imports.expansion import Choices, expand
from annotate.imports.writing import write
from annotate.pairs.snapshots import take_snapshot
from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.exports.conftest import CHAT

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "look_up", "arguments": "{}"}}],
}
TURN = [CALL, {"role": "tool", "content": "3"}, {"role": "assistant", "content": "Three."}]
ONE_MESSAGE = ("llama_factory", "axolotl", "openai", "nemo_rl")


@pytest.fixture
def turn(project: Any) -> None:
    """Import a judged pair whose better completion is a whole turn with tools."""
    row = Candidate(CHAT, (Answer(TURN), Answer("Four.")), (Opinion((1.0, 0.0), annotator="maria"),))
    write(project, list(enumerate(expand(row, Choices("judged")), start=1)))


def written(selection: Any) -> tuple[int, bytes]:
    found = open_download(selection)
    data = b"".join(found.chunks)
    return found.written.total, data


@pytest.mark.parametrize("format", ONE_MESSAGE)
def test_one_pair_with_a_whole_turn_does_not_stop_the_others(plain, turn, select, format):
    selection = select(format=format)
    found = account.count(selection.project, selection.filters, selection.settings)
    rows, data = written(selection)
    assert (found["pairs"], rows) == (1, 1)
    assert found["excluded"] == {"tie": 1, "both_bad": 1, "skipped": 1, "several_messages": 1}
    assert account.estimate(selection) == 1
    assert b"look_up" not in data


def test_formats_of_messages_keep_whole_turns(plain, turn, select):
    for format in ("conversational", "ms_swift"):
        assert written(select(format=format))[0] == 2


@pytest.mark.parametrize("format", ONE_MESSAGE)
def test_a_snapshot_leaves_them_out_and_counts_them(project, owner, plain, turn, select, format):
    every = select().settings
    digest = take_snapshot(project, owner, settings=every).digest[:12]
    for chosen, pairs in ((format, 1), ("ms_swift", 2)):
        selection = select(format=chosen, snapshot=digest)
        found = account.count(project, selection.filters, selection.settings, selection.snapshot)
        assert (found["pairs"], written(selection)[0]) == (pairs, pairs)
        assert found["excluded"].get("several_messages", 0) == 2 - pairs


def test_page_and_command_name_the_reason(plain, turn, researcher, client_for):
    page = client_for(researcher).get("/p/reviews/export/?count=1&format=axolotl")
    assert "with a completion of several messages" in page.content.decode()
    assert page.context["account"]["pairs"] == 1
    out = StringIO()
    call_command("export", "reviews", "--format", "axolotl", "--dry-run", "--json", stdout=out)
    assert json.loads(out.getvalue())["excluded"]["several_messages"] == 1
    out = StringIO()
    call_command("export", "reviews", "--format", "axolotl", "--dry-run", stdout=out)
    assert "  - 1 with a completion of several messages" in out.getvalue().splitlines()
