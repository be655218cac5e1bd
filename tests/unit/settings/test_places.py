"""Where a gateway's sockets are, and its spool."""

import os
from pathlib import Path

import pytest

from gateway.settings.places import LONGEST_PATH, PlaceTakenError, socket_path, spool_folder
from gateway.settings.transfer import convert

NAME = "valkey.sock"


def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("x" * 100) / "valkey"
    folder.mkdir(parents=True)
    return folder


def test_a_short_path_is_in_the_folder(tmp_path: Path) -> None:
    assert socket_path(tmp_path, NAME) == tmp_path / "valkey.sock"


def test_a_long_path_is_elsewhere_private_and_the_same_each_time(tmp_path: Path) -> None:
    folder = long_folder(tmp_path)
    short = tmp_path / "s"
    short.mkdir()
    path = socket_path(folder, NAME, short)
    assert path == socket_path(folder, NAME, short)
    assert path.parent.parent == short
    assert path.parent.stat().st_mode & 0o777 == 0o700
    other = folder.parent / "other"
    other.mkdir()
    assert socket_path(other, NAME, short) != path
    assert socket_path(folder, "control.sock", short) != path
    assert path.name.endswith(f"-{NAME}"), "people see what it is"


def test_the_limit_counts_bytes(tmp_path: Path) -> None:
    name = "é" * ((LONGEST_PATH - len(os.fsencode(tmp_path)) - len("//valkey.sock")) // 2 + 1)
    folder = tmp_path / name
    folder.mkdir()
    assert len(str(folder / "valkey.sock")) <= LONGEST_PATH
    assert socket_path(folder, NAME, tmp_path).parent.parent == tmp_path


@pytest.mark.parametrize("wrong", ["open", "link", "file"])
def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, wrong: str) -> None:
    place = tmp_path / f"gateway-{os.getuid()}"
    if wrong == "open":
        place.mkdir()
        place.chmod(0o755)
    elif wrong == "link":
        (tmp_path / "real").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "real")
    else:
        place.touch(mode=0o600)
    with pytest.raises(PlaceTakenError, match="nobody else may enter"):
        socket_path(long_folder(tmp_path), NAME, tmp_path)


def test_the_spool_is_in_the_data_folder_or_elsewhere() -> None:
    common = {"upstreams": {"a": {"base_url": "http://a/v1"}}, "data_dir": "/data"}
    assert spool_folder(convert(common)) == Path("/data/spool")
    assert spool_folder(convert({**common, "usage": {"spool_dir": "/else/where"}})) == Path("/else/where")
