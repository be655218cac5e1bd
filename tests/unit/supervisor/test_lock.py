"""A data folder belongs to one gateway at a time."""

import os
from pathlib import Path

import pytest

from gateway.supervisor.lock import DataFolderError, DataFolderLock, is_held


def test_it_is_made_locked_and_released(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    lock = DataFolderLock(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert lock.path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(DataFolderError, match=rf"{folder} is in use by the gateway with pid {os.getpid()}$"):
        DataFolderLock(folder)
    assert is_held(folder)
    lock.release()
    assert not is_held(folder)
    assert lock.path.read_text() == ""
    DataFolderLock(folder).release()


def test_a_pid_that_is_left_in_the_file_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\nand more that was there before\n")
    lock = DataFolderLock(tmp_path)
    assert lock.path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match="cannot be used: "):
        DataFolderLock(tmp_path / "file")
    (tmp_path / "lock").mkdir()
    with pytest.raises(DataFolderError, match="cannot be used: Is a directory"):
        DataFolderLock(tmp_path)


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not is_held(tmp_path / "gone")
