"""Clocks of a process that count its processor seconds: `benchmarks.plan --processor` puts this folder on the path.

On a machine that other work shares, seconds of the clock tell of that work.
"""

import time

time.perf_counter = time.monotonic = time.time = time.process_time
