"""The variants of a rule: some are tested by `make test`, all by the slower targets."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(names: Iterable[Any], *quick: Any) -> list[Any]:
    """Return parameters, of which all but `quick` are marked slow. Each of `quick` is among them."""
    names = list(names)
    assert set(quick) <= set(names)
    return [
        name
        if name in quick
        else pytest.param(*(name if isinstance(name, tuple) else [name]), marks=pytest.mark.slow)
        for name in names
    ]
