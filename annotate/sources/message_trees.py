"""Files with one message of a conversation a row, as Open-Assistant's, joined to lines of one tree each.

The messages of one tree follow each other, and name it. A tree is written where its first message was, and the other
lines are blank, so that each line keeps its number. Of the file, one tree is in memory at a time.
"""

import codecs
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from annotate.sources.formats.corpora.trees import JOINED

KEYS = frozenset(("message_id", "message_tree_id", "role", "text"))  # and parent_id, but of the first one
LARGEST, BYTES = 10_000, 4 * 1024 * 1024  # lines of a tree, and what they have in the file
LINE = 8 * 1024 * 1024  # bytes of a line. Nothing is read after a longer one

Message = dict[str, Any]


def is_message(record: object) -> bool:
    """Return whether a record is one message of a tree."""
    return (
        isinstance(record, dict)
        and record.keys() >= KEYS
        and "replies" not in record
        and isinstance(record["message_tree_id"], str | int)
    )


def begins_with_message(line: str | bytes) -> bool:
    """Return whether a file with this first line has one message a line."""
    return is_message(_parse(line))


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file without their ends, and without the mark of UTF-8 that it may begin with."""
    file.seek(0)
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    while line := file.readline(LINE + 1):
        yield line.rstrip(b"\r\n")
        if len(line) > LINE:
            return


def join_messages(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield as many lines, in which messages are joined to trees if the first line is a message."""
    rest = iter(lines)
    begin = []
    for line in rest:
        begin.append(line)
        if line.strip():
            break
    every = chain(begin, rest)
    yield from _join(every) if begin and begins_with_message(begin[-1]) else every


def _join(lines: Iterable[bytes]) -> Iterator[bytes]:
    group: list[bytes] = []
    messages: dict[int, Message] = {}  # by their places in the group
    tree, size = None, 0
    for line in lines:
        message = _parse(line)
        if is_message(message) and message["message_tree_id"] != tree:
            tree = message["message_tree_id"]
            is_over = True
        else:
            is_over = len(group) >= LARGEST or size + len(line) > BYTES
        if is_over:
            yield from _join_group(group, messages)
            group, messages, size = [], {}, 0
        if is_message(message):
            messages[len(group)] = message
        group.append(line)
        size += len(line)
    yield from _join_group(group, messages)


def _join_group(lines: list[bytes], messages: dict[int, Message]) -> list[bytes]:
    """Return lines in which each tree is in the place of its first message.

    A message that no tree here leads to stays a line, and is refused by its reason. So does what is not a message. A
    tree is its lines as they are: serialized again they could be longer, or nested too deep.
    """
    replies: dict[str, list[int]] = defaultdict(list)
    for place, message in messages.items():
        if isinstance(message.get("parent_id"), str):
            replies[message["parent_id"]].append(place)
    joined = list(lines)
    for root, message in messages.items():
        if message.get("parent_id") is None:
            places = _find_below(root, messages, replies)
            tree = b'{"%b":[%b]}' % (JOINED.encode(), b",".join(lines[place] for place in places))
            if len(tree) > LINE:
                continue
            for place in places:
                joined[place] = b""
            joined[root] = tree
    return joined


def _find_below(root: int, messages: dict[int, Message], replies: dict[str, list[int]]) -> list[int]:
    """Return the place of a message and of all below it. Replies to an id are those of its first message."""
    found = [root]
    for place in found:
        name = messages[place]["message_id"]
        found += replies.pop(name, []) if isinstance(name, str) else []
    return found


def _parse(line: str | bytes) -> Any:
    try:
        return json.loads(line if isinstance(line, str) else line.decode())
    except (ValueError, RecursionError):
        return None
