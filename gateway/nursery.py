"""Processes that are forked from one which has imported all they need: what it and the supervisor say, and its side.

Messages go over a socket that keeps them apart (SOCK_SEQPACKET), descriptors with them. A process's number alone would
not do: it may be another's by the time that somebody uses it. So each is told with a descriptor of the process (pidfd).
"""

import contextlib
import os
import select
import signal
import socket

import msgspec

_MOST_BYTES = 4096
_MOST_DESCRIPTORS = 8


class Fork(msgspec.Struct, frozen=True, tag=True):
    """To the nursery, with descriptors: the new process's end of its leash, then the sockets that it listens on."""

    label: str


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """From the nursery, first: everything is imported."""


class Born(msgspec.Struct, frozen=True, tag=True):
    """The answer to a Fork, with the process's descriptor. Answers come in the order of what is asked."""

    pid: int


class NotBorn(msgspec.Struct, frozen=True, tag=True):
    """The other answer, in words for people."""

    reason: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From the nursery, of one that was born. status: as a shell has it, negative if a signal ended it."""

    pid: int
    status: int


FromNursery = Waiting | Born | NotBorn | Ended
_from_nursery = msgspec.json.Decoder(FromNursery)
_fork = msgspec.json.Decoder(Fork)


class Newborn(msgspec.Struct, frozen=True):
    """What a forked process has been given."""

    label: str
    leash: socket.socket
    sockets: list[socket.socket]


def possible() -> bool:
    """Whether this system has what it takes."""
    if not (hasattr(os, "pidfd_open") and hasattr(socket, "SOCK_SEQPACKET") and hasattr(socket, "MSG_CMSG_CLOEXEC")):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a container that forbids it
        return False
    return True


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of what they speak over."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def tell(end: socket.socket, message: Fork | FromNursery, descriptors: list[int] | None = None) -> None:
    """Sends a message. OSError."""
    socket.send_fds(end, [msgspec.json.encode(message)], descriptors or [])


def hear(end: socket.socket) -> tuple[FromNursery, list[int]] | None:
    """What the nursery says, with descriptors; None when it has gone. BlockingIOError if it has said nothing."""
    data, descriptors = _receive(end)
    return (_from_nursery.decode(data), descriptors) if data else None


def _receive(end: socket.socket) -> tuple[bytes, list[int]]:
    try:
        data, descriptors, _, _ = socket.recv_fds(end, _MOST_BYTES, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    return data, descriptors


def tend(end: socket.socket) -> Newborn | None:
    """The nursery's life: forks when it is told to, and tells what becomes of the processes, until the supervisor has
    gone: None then. It returns in each forked process too, with what that has been given.

    There must be no other thread, for only the one that calls this goes on in what it forks.
    """
    alive: dict[int, int] = {}  # pids by their descriptors
    poll = select.poll()
    poll.register(end, select.POLLIN)
    _say(end, Waiting())
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != end.fileno():
                poll.unregister(descriptor)
                _bury(end, alive.pop(descriptor), descriptor)
                continue
            data, given = _receive(end)
            if not data:
                return None
            pid = _forked(end)
            if pid == 0:
                for number in (end.detach(), *alive):
                    os.close(number)
                leash, *sockets = (socket.socket(fileno=number) for number in given)
                return Newborn(_fork.decode(data).label, leash, sockets)
            for number in given:
                os.close(number)
            if pid is not None and (its := _introduced(end, pid)) is not None:
                alive[its] = pid
                poll.register(its, select.POLLIN)


def _forked(end: socket.socket) -> int | None:
    """0 in the new process, and its pid in this one; None, and it is said why, if there is none."""
    try:
        return os.fork()
    except OSError as error:
        _say(end, NotBorn(error.strerror or str(error)))
        return None


def _introduced(end: socket.socket, pid: int) -> int | None:
    """Tells of a new process; returns its descriptor. If it cannot have one, there is no process."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _say(end, NotBorn(error.strerror or str(error)))
        return None
    _say(end, Born(pid), [descriptor])
    return descriptor


def _bury(end: socket.socket, pid: int, descriptor: int) -> None:
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    _say(end, Ended(pid, os.waitstatus_to_exitcode(status)))


def _say(end: socket.socket, message: FromNursery, descriptors: list[int] | None = None) -> None:
    """Nobody may be there any more; `tend` hears of it next."""
    with contextlib.suppress(ConnectionError):
        tell(end, message, descriptors)
