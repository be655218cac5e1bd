"""What is shown a socket's messages."""

from typing import Protocol


class Observer(Protocol):
    """Is shown each message after it has been passed on. It raises nothing, and keeps nobody waiting."""

    def up(self, message: bytes, /) -> None: ...
    def down(self, message: bytes, /) -> None: ...
    def end(self, ended: str, /) -> None:
        """Both sockets have ended; ended: who was first to, `client_left` or else `cut`."""
