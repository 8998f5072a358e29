"""Imports transformers and PEFT without what a single process never runs, in about half the time.

Whoever imports a model from transformers also imports PyTorch's compiler (for decorators that mean nothing unless
a model is compiled), its sharding layer (for checkpoints of sharded models) and SciPy (for one loss of object
detection); and PyTorch imports its compiler the first time it makes an optimizer. That takes longer than the starter
model needs to train on a hundred pairs. Here the compiler is stood in for by a module that knows those decorators, and
that gives way to the real one as soon as anything else is asked of it.

Nothing is stood in for under torchrun, which needs the sharding layer, where vLLM is installed, which compiles, or
where transformers has been imported already.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from unittest import mock

_COMPILER = "torch._dynamo"
_VMAP = "torch._dynamo._trace_wrapped_higher_order_op"
# All that is asked of the compiler where nothing is compiled: decorators, and a mark in the optimizer's step.
_HARMLESS = frozenset(
    {"disable", "allow_in_graph", "assume_constant_result", "disallow_in_graph", "graph_break"}
)


def import_transformers() -> None:
    """Import what the engine uses of transformers and PEFT; the rest of the engine may import them after this."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars would fill the log of a round
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    spared = alone and "transformers" not in sys.modules and importlib.util.find_spec("vllm") is None
    with _spared() if spared else contextlib.nullcontext():
        import peft  # noqa: F401 - imported to be there
        import transformers.modeling_utils  # noqa: F401


@contextlib.contextmanager
def _spared() -> Iterator[None]:
    import torch

    if _COMPILER not in sys.modules:
        _Door.close()
    with mock.patch.object(torch.distributed, "is_available", return_value=False):
        from transformers import utils

        with mock.patch.object(utils, "is_scipy_available", return_value=False):
            yield


class _StandIn(ModuleType):
    """The compiler until anything of consequence is asked of it."""

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in _HARMLESS:
            return _undecorated
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_Door.open(), name)


class _Door(MetaPathFinder, Loader):
    """Lets the compiler in when one of its submodules is looked for, and hands that over."""

    @classmethod
    def close(cls) -> None:
        """Put the stand-in into the compiler's place."""
        import torch

        vmap = ModuleType(_VMAP)
        vars(vmap)["TransformGetItemToIndex"] = _LateTransform
        sys.modules |= {_COMPILER: _StandIn(), _VMAP: vmap}
        vars(torch)["_dynamo"] = sys.modules[_COMPILER]
        sys.meta_path.insert(0, cls())

    @classmethod
    def open(cls) -> ModuleType:
        """The compiler itself, from here on in its own place."""
        if isinstance(sys.modules.get(_COMPILER), _StandIn):
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, cls)]
            del sys.modules[_COMPILER], sys.modules[_VMAP]
        return importlib.import_module(_COMPILER)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Asked at every import, until the door is open."""
        return ModuleSpec(name, self) if name.startswith(_COMPILER + ".") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The submodule, imported together with the compiler."""
        self.open()
        return importlib.import_module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it has been executed."""


class _LateTransform:
    """A context that masks enter when they are built under vmap: the compiler's, imported at that moment."""

    def __enter__(self) -> Any:
        _Door.open()
        self._real = importlib.import_module(_VMAP).TransformGetItemToIndex()
        return self._real.__enter__()

    def __exit__(self, *raised: Any) -> Any:
        return self._real.__exit__(*raised)


def _undecorated(function: Any = None, *arguments: Any, **options: Any) -> Any:
    """A decorator, bare or called, that leaves a function as it is."""
    return function if callable(function) else lambda decorated: decorated
