"""Every option with its default and its explanation, for `--help`, the documentation and the form of a round."""

import dataclasses
from typing import Any

from training.engine.config.train import TrainConfig


def explain(cls: Any = TrainConfig, prefix: str = "") -> list[tuple[str, Any, str, tuple[str, ...]]]:
    """Return every option as (dotted name, default, explanation, choices); a required one has default `...`."""
    rows: list[tuple[str, Any, str, tuple[str, ...]]] = []
    for option in dataclasses.fields(cls):
        factory: Any = option.default_factory
        if factory is dataclasses.MISSING:
            default = ... if option.default is dataclasses.MISSING else option.default
        elif dataclasses.is_dataclass(factory):
            rows += explain(factory, f"{prefix}{option.name}.")
            continue
        else:
            default = factory()
        rows.append((prefix + option.name, default, option.metadata["text"], option.metadata["choices"]))
    return rows
