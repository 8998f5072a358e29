"""Calling the forward of a model that is not known: with what it takes, and with a sentence for what it raises."""

import contextlib
from collections.abc import Iterator
from inspect import signature
from typing import Any

from training.engine.errors import EngineError, ModelError, memory_short, sentence


class ForwardArguments:
    """The arguments of a transformers model's forward."""

    def __init__(self, model: Any) -> None:
        parameters = signature(model.forward).parameters
        self.names = frozenset(parameters)
        self._any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def accepted(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return those of `inputs` that the forward takes."""
        return {name: value for name, value in inputs.items() if self._any or name in self.names}


class AttentionChoice:
    """The implementation of a transformers model's attention."""

    def __init__(self, model: Any) -> None:
        self.model, self.own = model, _implementations(model.config)

    def use(self, name: str | None) -> None:
        """Compute every part by the implementation `name`, or each by its own again."""
        if (name or self.own[""]) != self.model.config._attn_implementation:
            self.model.set_attn_implementation(name or self.own)


def _implementations(config: Any) -> dict[str, Any]:
    """Return the implementations of a model and its parts, as transformers takes them.

    A part without parts of its own has a name alone: some versions take no other for it.
    """
    found = {"": config._attn_implementation}
    for name in config.sub_configs:
        part = getattr(config, name)
        if part is not None and part._attn_implementation is not None:
            found[name] = _implementations(part) if part.sub_configs else part._attn_implementation
    return found


@contextlib.contextmanager
def computed_by(base: Any) -> Iterator[None]:
    """Turn what a model's own code raises into one sentence that names its class. Raises ModelError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, EngineError) or memory_short(error):
            raise
        raise ModelError(
            f"The model ({type(base).__name__}) cannot be computed: {sentence(error)}"
        ) from error
