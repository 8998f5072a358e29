"""Jobs side by side, each computing on one thread: on a CPU, products too small to be shared by threads."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

Job = Callable[[threading.Event], None]


def run_apart(jobs: Sequence[Job], threads: int) -> None:
    """Run jobs, `threads` at a time; with one, they run here, one after the other, on all the threads there are.

    The first error is raised; the event that each job is given is set then, for the others to end.
    """
    stopping = threading.Event()
    if threads == 1:
        for job in jobs:
            job(stopping)
        return
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(job, stopping) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopping.set()
            raise


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let threads that start inside compute on one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
