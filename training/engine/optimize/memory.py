"""The peak memory of this process, on the CPU or on a GPU."""

import contextlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def own_peak() -> int:
    """Return the largest resident memory of this process so far, in bytes.

    On Linux, getrusage includes the peak of the parent process. The status file does not.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_of(device: "torch.device") -> int:
    """Return the largest memory so far, in bytes: of the CUDA device, or of this process."""
    if device.type != "cuda":
        return own_peak()
    import torch

    return torch.cuda.max_memory_allocated(device)


def reset_peak(device: "torch.device") -> None:
    """Forget the peak so far, where the system can: then `peak_of` is that of what follows."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
