"""Where a gateway keeps what is not in Redis or a database: its sockets, and usage that waits."""

import contextlib
import hashlib
import os
from pathlib import Path

from gateway.settings.model import Settings

COMMAND_SOCKET = "command.sock"
LONGEST_PATH = 103  # bytes; macOS has room for 104 with the final NUL, Linux for 108, and servers may cut silently


class PlaceTakenError(Exception):
    """A folder that must be ours is somebody else's."""


def socket_path(folder: Path, name: str, short: Path = Path("/tmp")) -> Path:  # noqa: S108 - a private folder in it
    """Path of the unix socket `name` that belongs to `folder`.

    It is in the folder itself if that path is short enough for a socket. Otherwise in `short`, in a folder of our user
    that nobody else may enter, under a name that follows from `folder` and `name` alone, so that other processes find
    it, those of a later start too: so not in XDG_RUNTIME_DIR, which differs between a login and a service.
    Raises PlaceTakenError if somebody else has that folder.
    """
    folder = folder.resolve()
    path = folder / name
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    private = short / f"gateway-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        private.mkdir(mode=0o700)
    found = private.lstat()
    if not private.is_dir() or private.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PlaceTakenError(f"{private} must be a folder of this user that nobody else may enter")
    return private / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}-{name}"


def control_socket(settings: Settings) -> Path:
    """Where the control process takes administrative requests from workers."""
    return socket_path(Path(settings.data_dir), "control.sock")


def command_socket(settings: Settings) -> Path:
    """Where the control process takes the commands of this machine's operator: who may open it is who may do it."""
    return socket_path(Path(settings.data_dir), COMMAND_SOCKET)


def spool_folder(settings: Settings) -> Path:
    """Where workers keep usage while Redis is away."""
    return Path(settings.usage.spool_dir or Path(settings.data_dir) / "spool")
