"""One part: `python -m benchmarks.gpu_parts PART OUT DEVICE [--tiny] [CASE ...]`."""

import sys
import tempfile
from pathlib import Path

from benchmarks.gpu_parts import exactness, speed
from benchmarks.gpu_parts.part import Part

PARTS = {
    "products": exactness.products,
    "margins": exactness.margins,
    "tests": exactness.tests,
    "architectures": exactness.architectures,
    "resume": exactness.resume,
    "train": speed.train,
    "sample": speed.sample,
    "qlora": speed.qlora,
}


def main(name: str, out: str, device: str, *rest: str) -> None:
    """Run one part."""
    cases = [one for one in rest if one != "--tiny"]
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        part = Part(name, Path(out), device, tiny="--tiny" in rest, cases=cases, scratch=Path(scratch))
        PARTS[name](part)


main(*sys.argv[1:])
