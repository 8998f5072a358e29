"""A CPU's speed in bfloat16 against float32, measured once per machine.

Which processors multiply bfloat16 in hardware, and which libraries use it, changes with each generation. So both
products are timed. What was found is kept in a file, so that every verb and every restart of a run decides alike.
"""

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from primitives.files import write_whole
from training.engine.rundir import read_object

_ROWS, _SIZE = 128, 512  # of the product that is timed
_WORTH = 1.3  # times as fast: what surrounds the products is not faster in bfloat16


def bfloat16_pays() -> bool:
    """Return whether this CPU multiplies bfloat16 so much faster than float32 that training gains from it."""
    file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whetstone" / "products.json"
    key = f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    known = _read(file)
    if not _is_measured(known.get(key)):
        known[key] = {name: product_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(known, indent=1).encode(), durable=False)
    return bool(known[key]["bfloat16"] > _WORTH * known[key]["float32"])


def product_rate(dtype: torch.dtype) -> float:
    """Return the operations a second of matrix products in `dtype`, at their best of a few."""
    left, right = torch.ones(_ROWS, _SIZE, dtype=dtype), torch.ones(_SIZE, _SIZE, dtype=dtype)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return 2 * _ROWS * _SIZE**2 / min(seconds)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return read_object(file)
    return {}


def _is_measured(rates: Any) -> bool:
    return isinstance(rates, dict) and all(
        isinstance(rates.get(name), float) for name in ("float32", "bfloat16")
    )
