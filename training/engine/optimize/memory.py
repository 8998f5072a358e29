"""The peak memory of this process."""

import contextlib
import resource
import sys
from pathlib import Path


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
