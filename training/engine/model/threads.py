"""Jobs side by side, each computing on one thread: on a CPU, products too small to be shared by threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Self

import torch

SMALL_HIDDEN = 512  # an estimate: threads were measured to pay at 128, and not to at 896
Job = Callable[[threading.Event], None]


def is_small(config: Any) -> bool:
    """Return whether a model's matrix products are so small that the rest takes as long."""
    size: int = config.get_text_config().hidden_size
    return size < SMALL_HIDDEN


def threads_apart(config: Any, device: torch.device) -> int:
    """Return how many jobs to run side by side: one a thread for a small model on a CPU, else one."""
    return torch.get_num_threads() if device.type == "cpu" and is_small(config) else 1


class Crew:
    """Threads that each compute on one thread while it is entered. A crew of one is the caller itself."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __enter__(self) -> Self:
        """Start the threads."""
        self._before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.threads)
        if self.threads > 1:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for jobs that still run, and end."""
        self._pool.shutdown()
        torch.set_num_threads(self._before)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs, as many at a time as there are threads.

        The first error is raised; the event that each job is given is set then, for the others to end.
        """
        stopping = threading.Event()
        if self.threads == 1:
            for job in jobs:
                job(stopping)
            return
        futures = [self._pool.submit(job, stopping) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopping.set()
            for future in futures:
                future.cancel()
            raise
