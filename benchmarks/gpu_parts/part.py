"""A part at work: its shapes, its device, its clock, and where it writes."""

import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.shapes import CUDA_CASES, Case, Lengths, ModelShape
from primitives.files import write_whole

TINY = ModelShape(name="tiny", layers=2, hidden=64, intermediate=96, heads=4, key_heads=2, vocabulary=512)
TINY_CASE = Case(
    name="tiny",
    about="",
    model=TINY,
    prompts=Lengths(20, 0.5, 4, 40),
    completions=Lengths(10, 0.5, 3, 20),
    batch_size=4,
    steps=2,
    learning_rate=1e-4,
)
# In the order in which they are run: what comes last is lost first when time is short.
DEFAULT_CASES = ("tiny", "0.5b-hh", "1.5b-hh", "7b-hh", "0.5b-long", "1.5b-long", "7b-long")


class Part:
    """One part: where it writes, on which device, in which shapes."""

    def __init__(
        self, name: str, out: Path, device: str, *, tiny: bool, cases: list[str], scratch: Path
    ) -> None:
        self.name = name
        self.out, self.device, self.tiny, self.scratch = out, device, tiny, scratch
        known = (TINY_CASE,) if tiny else CUDA_CASES
        wanted = cases or DEFAULT_CASES
        self.cases = sorted(
            (case for case in known if case.name in wanted), key=lambda case: wanted.index(case.name)
        )
        self.found: dict[str, Any] = {}

    def keep(self, name: str, figures: Any) -> None:
        """Add a finding to what is on the disk."""
        self.found[name] = figures
        content = json.dumps(self.found, indent=1) + "\n"
        write_whole(self.out / f"{self.name}.json", content.encode())  # the part may be killed at any moment
        print(name, figures, flush=True)

    def case(self, name: str) -> Case:
        """Return the case of this name, or the tiny one."""
        return self.cases[0] if self.tiny else next(one for one in CUDA_CASES if one.name == name)

    def milliseconds(self, call: Callable[[], Any]) -> float:
        """Return the median of 30 calls."""
        times = []
        for _ in range(33):
            self.synchronize()
            began = time.perf_counter()
            call()
            self.synchronize()
            times.append(1e3 * (time.perf_counter() - began))
        return round(statistics.median(times[3:]), 4)

    def rate(self, write: Callable[[], int]) -> float:
        """Return the tokens a second of a call that returns how many it wrote."""
        self.synchronize()
        began = time.perf_counter()
        tokens = write()
        self.synchronize()
        return round(tokens / (time.perf_counter() - began), 1)

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
