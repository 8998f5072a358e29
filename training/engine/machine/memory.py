"""The memory that is free, on a GPU or on this machine within its control group."""

import contextlib
import os
from pathlib import Path

import torch

_GROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still take: on its GPU, or on a CPU what its control group leaves."""
    if device.type == "cuda":
        free, _whole = torch.cuda.mem_get_info(device)
        # PyTorch keeps what it does not use any more, and gives it out again.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return min([_free_on_machine(), *_free_in_group()])


def _free_on_machine() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_group() -> list[int]:
    """Return what the control group leaves, of version 2 or 1, or nothing where it has no limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            free = int((_GROUP / limit).read_text()) - int((_GROUP / used).read_text())
            return [max(0, free + _reclaimable((_GROUP / limit).parent))]
    return []


def _reclaimable(folder: Path) -> int:
    """Return the bytes of a control group that hold files, and are given back when others are needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, size = line.partition(" ")
            if name == "inactive_file":
                return int(size)
    return 0
