"""Files that appear whole, whatever happens while they are written."""

import os
import stat
from pathlib import Path

import pytest

from primitives.files import PRIVATE, create_once, whole_file, write_whole


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["f"]


def test_an_exception_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path):
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f".f.{os.getpid()}.part").write_text("half of a longer file")
    write_whole(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(("mode", "shown"), [(0o666, "-rw-r-----"), (PRIVATE, "-rw-------")])
def test_a_file_has_its_mode_from_the_first_byte(tmp_path: Path, mode: int, shown: str) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "f", mode=mode):
            [part] = tmp_path.iterdir()
            assert stat.filemode(part.stat().st_mode) == shown
    finally:
        os.umask(before)


def test_a_file_that_is_created_once_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert create_once(path, b"first")
    assert not create_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert stat.filemode(path.stat().st_mode) == "-rw-------"
    assert os.listdir(tmp_path) == ["f"]
