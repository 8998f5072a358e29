"""The devices of this machine: processors and memory, and GPUs if there are any.

PyTorch is imported only where there may be a GPU, so the answer costs little elsewhere.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

# The kernel's drivers of NVIDIA and AMD.
GPU_SIGNS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def find_devices() -> dict[str, Any]:
    """Return what a training can compute with here."""
    found: dict[str, Any] = {
        "cpu": {"threads": available_cpus(), "memory": memory(), "bfloat16": has_bfloat16()},
        "gpus": [],
    }
    if any(map(os.path.exists, GPU_SIGNS)):
        import torch

        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            half = torch.cuda.get_device_capability(number) >= (8, 0)
            found["gpus"].append({"name": gpu.name, "memory": gpu.total_memory, "bfloat16": half})
    return found


def available_cpus() -> int:
    """Return the CPUs this process may run on, no more than its control group's quota pays for."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cpus = min(cpus, max(1, int(quota) // int(period)))
    return cpus


def memory() -> int:
    """Return the bytes of memory of this machine, or of its control group."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        whole = min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return whole


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16. Whether they pay is measured by a training."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return not BFLOAT16_FLAGS.isdisjoint(line.split())
    return False
