"""A process whose output is no longer read ends as `cat` does."""

import subprocess
import sys

import pytest

WRITES = {
    "text": "print('line\\n' * 100_000)",
    "bytes": "sys.stdout.buffer.writelines([b'line\\n'] * 100_000)",
    "little, at the end": "print('line'); input(); print('line')",
}


def start(code: str) -> subprocess.Popen[bytes]:
    code = f"import sys\nfrom primitives.pipes import end_with_reader\nwith end_with_reader():\n    {code}"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize("code", WRITES.values(), ids=WRITES)
def test_a_lost_reader_ends_the_process_without_a_word(code: str) -> None:
    with start(code) as child:
        assert child.stdout is not None
        if "input" not in code:
            assert child.stdout.read(4) == b"line"
        child.stdout.close()
        child.stdout = None
        _, said = child.communicate(b"\n")
    assert (child.returncode, said) == (141, b"")


def test_the_end_of_another_pipe_remains_an_error() -> None:
    with start("print('line'); raise BrokenPipeError('of a socket')") as child:
        out, said = child.communicate()
    assert (child.returncode, out.strip()) == (1, b"line")
    assert said.strip().endswith(b"BrokenPipeError: of a socket")
