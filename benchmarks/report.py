"""Parts of every benchmark's report: the machine in words, Markdown tables, and its place in the README."""

import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"


def hardware() -> str:
    """Return the processor and how much of it this process may use."""
    model = platform.processor() or platform.machine()
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(re.findall(r"^(model name|flags)\s*:\s*(.*)$", info.read_text(), re.MULTILINE))
        model, flags = fields.get("model name", model), set(fields.get("flags", "").split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wide = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    return f"{cores} cores of {model}{f' with {wide}' if wide else ''}"


def today() -> str:
    """Return the date of a report."""
    return time.strftime("%Y-%m-%d")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def publish(name: str, text: str, readme: Path = FOLDER / "README.md") -> None:
    """Put `text` between the README's markers of `name`. Raises ValueError if it has none."""
    before = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, found, rest = before.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{readme.name} has no place for {name}: it needs {begin.strip()} and {end}.")
    readme.write_text(f"{head}{begin}\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
