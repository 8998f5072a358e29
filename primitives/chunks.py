"""Rows a few at a time, so that memory stays bounded."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def chunks(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` rows. The last one may be shorter, and none is empty."""
    rest = iter(rows)
    while some := list(islice(rest, size)):
        yield some
