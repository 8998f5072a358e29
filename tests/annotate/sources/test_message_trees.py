"""Messages of conversations, one a row: joined to their trees, as if these had come as such."""

import codecs
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.sources import message_trees
from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS, find_format
from annotate.sources.lines import as_lines
from annotate.sources.message_trees import join_messages
from tests.annotate.sources.cases.corpora import TREE, reply

[OASST] = [each for each in FORMATS if each.name == "oasst"]
OTHER = {
    "message_tree_id": "o",
    "tree_state": "ready_for_export",
    "prompt": reply("o", "Sea?", "prompter", replies=[reply("o1", "Wet.", rank=0), reply("o2", "Zażółć.", rank=1)]),
}  # fmt: skip


def flatten(tree: dict[str, Any], node: Any = None, parent: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the messages of a tree as the published files have them, each with the tree's id and state."""
    node = node or tree["prompt"]
    of_tree = {key: tree[key] for key in ("message_tree_id", "tree_state")}
    yield {key: value for key, value in {**node, "parent_id": parent, **of_tree}.items() if key != "replies"}
    for one in node["replies"]:
        yield from flatten(tree, one, node["message_id"])


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), file)
    return file.getvalue()


def records(content: bytes, name: str = "messages.jsonl") -> list[Any]:
    """Return the record of each line, None for a blank one."""
    with as_lines(io.BytesIO(content), name, 10**8) as found:
        assert found.format == "jsonl"
        return [json.loads(line) if line.strip() else None for line in found.file]


FLAT = [*flatten(TREE), *flatten(OTHER)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("messages.jsonl", jsonl(*FLAT)),
        ("messages.jsonl", jsonl(*({k: v for k, v in row.items() if v is not None} for row in FLAT))),
        ("messages.jsonl.gz", gzip.compress(jsonl(*FLAT))),
        ("messages.json", json.dumps(FLAT).encode()),
        ("train-00000-of-00001.parquet", parquet(FLAT)),
        ("messages.jsonl", b"\n" + jsonl(*FLAT)),
        ("messages.jsonl", codecs.BOM_UTF8 + jsonl(*FLAT)),
    ],
)
def test_messages_say_what_their_trees_say(name: str, content: bytes) -> None:
    found = [record for record in records(content, name) if record]
    assert find_format(found) == OASST
    expected = [candidate for tree in (TREE, OTHER) for candidate in OASST.rows(tree)]
    assert [candidate for record in found for candidate in OASST.rows(record)] == expected


def test_messages_may_come_before_their_parents() -> None:
    first, second = (
        next(OASST.rows(OTHER)),
        next(OASST.rows(records(jsonl(*reversed(list(flatten(OTHER)))))[2])),
    )
    assert {answer.content for answer in first.answers} == {"Wet.", "Zażółć."}
    assert second.answers == first.answers[::-1]
    assert second.prompt == first.prompt


def test_each_line_keeps_its_number() -> None:
    lines = jsonl(*FLAT).splitlines(keepends=True)
    found = records(b"".join([*lines[:2], b"no JSON\n".replace(b"no JSON", b"[1]"), b"\n", *lines[2:]]))
    assert len(found) == len(FLAT) + 2
    assert [place for place, record in enumerate(found) if record] == [0, 2, len(FLAT) - 1]
    assert found[2] == [1]


def test_a_message_without_its_parent_is_left_out_by_name() -> None:
    rows = list(flatten(OTHER))
    lost = [*rows[:2], *flatten(TREE), *rows[2:]]
    found = records(jsonl(*lost))
    assert found[-1] == rows[2]
    assert found[0]["oasst_messages"][-1]["message_id"] == "o1"
    with pytest.raises(
        RecordError, match=r"It replies to a message \(o\) that is not among those of its tree"
    ):
        list(OASST.rows(found[-1]))


def test_messages_that_answer_each_other_are_left_out() -> None:
    one, two = ({**FLAT[0], "message_id": a, "parent_id": b} for a, b in ("xy", "yx"))
    itself = {**FLAT[0], "message_id": "z", "parent_id": "z"}
    assert records(jsonl(FLAT[0], one, two, itself))[1:] == [one, two, itself]


def test_a_large_tree_is_joined_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(flatten(OTHER))
    for name, most in (("LARGEST", 2), ("BYTES", len(jsonl(*rows[:2])))):
        with monkeypatch.context() as small:
            small.setattr(message_trees, name, most)
            found = records(jsonl(*rows))
        assert [len(found[0]["oasst_messages"]), found[1], found[2]] == [2, None, rows[2]]


def test_a_message_that_is_nested_deep_passes_the_door() -> None:
    """The depth at which Python gives up depends on what has been called."""
    first = jsonl(FLAT[0])
    for depth in (*range(850, 1_000), 100_000):
        deep = first.rstrip()[:-1] + b', "m": ' + b"[" * depth + b"]" * depth + b"}\n"
        for content in (first + deep, deep + first):
            with as_lines(io.BytesIO(content), "messages.jsonl", 10**8) as found:
                assert len(list(found.file)) == 2


@pytest.mark.parametrize(
    "value",
    ["[" + ",".join(["1e15"] * 800_000) + "]", '"\\ud800' + "ж" * 1_900_000 + '"'],
    ids=["1e15", "half"],
)
def test_a_line_grows_no_longer_than_its_messages(value: str) -> None:
    line = jsonl(FLAT[0]).rstrip()[:-1] + f', "m": {value}}}\n'.encode()
    [joined, last] = join_messages([line.rstrip(), jsonl(OTHER).rstrip()])
    assert len(joined) < len(line) + 100
    assert json.loads(last) == OTHER


def test_a_message_too_long_for_a_line_around_it_stays() -> None:
    line = jsonl({**FLAT[0], "text": ""}).rstrip()
    line = line.replace(b'"text": "', b'"text": "' + b"x" * (message_trees.LINE - len(line)))
    assert len(line) == message_trees.LINE
    assert list(join_messages([line])) == [line]
    with pytest.raises(RecordError, match="not of the format"):
        list(OASST.rows(json.loads(line)))


def test_chats_with_ids_of_messages_are_not_trees() -> None:
    one, two = (
        {"message_id": name, "role": role, "text": "Hi"}
        for name, role in (("1", "prompter"), ("2", "assistant"))
    )
    chat = {"messages": [{**each, "content": "Hi"} for each in ({**one, "role": "user"}, two)]}
    assert find_format([{"messages": [one, two]}]) != OASST
    found = find_format([chat])
    assert found is not None
    assert found.name == "chats"
    preferred = find_format([{**chat, "messages": chat["messages"][:1], "chosen": "a b", "rejected": "c"}])
    assert preferred != OASST


def test_one_tree_is_in_memory_at_a_time() -> None:
    def lines() -> Iterator[bytes]:
        for number in range(3_000):
            name = f"t{number}"
            tree = {**OTHER, "message_tree_id": name, "prompt": reply(name, "x" * 2_000, "prompter")}
            yield from (json.dumps(row).encode() for row in flatten(tree))

    tracemalloc.start()
    count = sum(1 for _line in join_messages(lines()))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3_000
    assert peak < 200_000


def test_other_lines_stay_as_they_are() -> None:
    lines = [b"", b'{"prompt": "a"}', b"", b'{"message_id": 1}']
    assert list(join_messages(lines)) == lines
    assert list(join_messages([])) == []
