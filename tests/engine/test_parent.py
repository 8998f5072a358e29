"""A command that ends with its input: what may be its input, and whom it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for

ENGINE = [sys.executable, "-m", "training.engine", "--end-with-input"]
COMMAND = """
import subprocess, time
from training.engine.machine.parent import end_with_input
child = subprocess.Popen(["sleep", "600"])
end_with_input()
print(child.pid, flush=True)
time.sleep(600)
"""
STOPPED = """
import os, signal, sys, time
from training.engine.optimize.interrupts import Interrupts
with Interrupts() as interrupts:
    interrupts.on_stop(lambda: None)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def started() -> Iterator[ExitStack]:
    """Return a stack, on which processes are put that are killed at the end."""
    with ExitStack() as stack:
        yield stack


def end(process: "subprocess.Popen[str]") -> None:
    with process:
        process.kill()


def start(started: ExitStack, *command: str, **how: object) -> "subprocess.Popen[str]":
    process: subprocess.Popen[str] = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how
    )
    started.callback(end, process)
    return process


@pytest.mark.parametrize("closed", [False, True], ids=["null", "closed"])
def test_an_input_that_is_not_a_pipe_is_wrong_usage(tmp_path: Path, closed: bool) -> None:
    shell = ["sh", "-c", 'exec "$@" <&-', "sh"] if closed else []
    told = subprocess.run(
        [*shell, *ENGINE, "sample", str(tmp_path)],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr.endswith("error: --end-with-input needs a pipe as the standard input\n")


def test_serve_which_reads_its_input_is_wrong_usage() -> None:
    command = [*ENGINE, "serve"]
    told = subprocess.run(command, check=False, input="", capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert told.stderr.endswith("error: serve ends with its input by itself: leave out --end-with-input\n")


def test_the_rest_of_a_pipeline_is_left_alone(started: ExitStack) -> None:
    first = start(started, sys.executable, "-c", COMMAND, process_group=0)
    rest = start(started, "sleep", "600", process_group=first.pid)
    assert first.stdout is not None
    assert first.stdin is not None
    child = psutil.Process(int(first.stdout.readline()))
    started.callback(child.kill)
    first.stdin.close()
    assert first.wait(60) == -signal.SIGTERM
    assert rest.poll() is None
    assert child.is_running()


def test_what_it_started_in_a_session_of_its_own_ends_too(started: ExitStack) -> None:
    command = start(started, sys.executable, "-c", COMMAND, start_new_session=True)
    assert command.stdout is not None
    assert command.stdin is not None
    child = psutil.Process(int(command.stdout.readline()))
    command.stdin.close()
    assert command.wait(60) == -signal.SIGTERM
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_stop_needs_no_reader_of_its_sentence(started: ExitStack) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = start(started, sys.executable, "-c", STOPPED, stderr=writing)
    os.close(writing)
    assert command.stdout is not None
    assert command.stdout.readline() == "ready\n"
    command.terminate()
    assert command.wait(30) == 75
