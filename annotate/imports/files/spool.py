"""The rows of a file that can be used, kept from its check until they are written: nothing is parsed twice.

A spool is a sequence of blocks, each packed by itself. It holds JSON and no code, so that reading one runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO

import orjson
import zstandard

from annotate.imports.records import Item, PairOpinion
from annotate.sources.candidates import CriterionOpinion

LENGTH = 4  # bytes, before each block
LEVEL = 1  # of compression: the fastest
Placed = tuple[int, Item]  # the line of an item in its file, and the item


class Spool:
    """Items with their lines in a file, written in blocks and read in the same."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, items: Sequence[Placed]) -> None:
        """Write a block."""
        if items:
            block = pack(items)
            self.file.write(len(block).to_bytes(LENGTH))
            self.file.write(block)

    def blocks(self) -> Iterator[list[Placed]]:
        """Yield the items of each block, from the first one on."""
        self.file.seek(0)
        while length := self.file.read(LENGTH):
            yield unpack(self.file.read(int.from_bytes(length)))


def pack(items: Sequence[Placed]) -> bytes:
    """Return items as bytes."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(dump(items))


def unpack(block: bytes) -> list[Placed]:
    """Return the items of packed bytes."""
    return load(zstandard.ZstdDecompressor().decompress(block))


def dump(items: Sequence[Placed]) -> bytes:
    """Return items as JSON."""
    return orjson.dumps([_row(line, item) for line, item in items])


def load(text: bytes) -> list[Placed]:
    """Return the items that are written as JSON."""
    return [(line, _item(*values)) for line, *values in orjson.loads(text)]


def _row(line: int, item: Item) -> list[Any]:
    return [
        line,
        item.digest,
        item.prompt,
        item.tools,
        item.prompt_external_id,
        item.prompt_metadata,
        item.completions,
        item.policies,
        item.external_id,
        item.metadata,
        item.gold,
        item.withdrawn,
        [
            (said.annotator, said.verdict, said.preferred, said.strength, said.rationale, said.seconds,
             said.at.isoformat() if said.at else None, said.left, said.too_fast, said.late, said.reasons,
             said.criteria and list(map(tuple, said.criteria)))
            for said in item.opinions
        ],
    ]  # fmt: skip


def _item(digest: str, *values: Any) -> Item:
    """Return an item. What it leaves out of its record was counted by the check."""
    prompt, tools, prompt_id, prompt_metadata, completions, policies, *rest = values
    external_id, metadata, gold, withdrawn, opinions = rest
    item = Item(
        prompt,
        tuple(tools),
        prompt_id,
        prompt_metadata,
        None if completions is None else tuple(completions),
        tuple(policies),
        external_id,
        metadata,
        gold,
        withdrawn,
        tuple(_opinion(*said) for said in opinions),
    )
    item.__dict__["digest"] = digest  # computed by the check
    return item


def _opinion(annotator: str, verdict: str, preferred: Any, *rest: Any) -> PairOpinion:
    strength, rationale, seconds, at, left, too_fast, late, reasons, criteria = rest
    return PairOpinion(
        annotator,
        verdict,
        preferred,
        strength,
        rationale,
        seconds,
        datetime.fromisoformat(at) if at else None,
        left,
        too_fast,
        late,
        None if reasons is None else tuple(reasons),
        None if criteria is None else tuple(CriterionOpinion(*one) for one in criteria),
    )
