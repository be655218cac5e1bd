"""An SMTP server that keeps what it is given, or refuses it."""

import asyncio
import base64
import contextlib
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage

import msgspec

from tests.fakes.tls_front import Certificate


class Received(msgspec.Struct, frozen=True):
    """A message, and what was said around it."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    login: tuple[str, str] | None


class SmtpServer:
    """refuse: the first words of a command and what is answered to it instead: `{"DATA": "451 not now"}`. silent_at: a
    command that gets no answer at all."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self.received: list[Received] = []
        self.refuse: dict[str, str] = {}
        self.silent_at = ""
        self.connections = 0
        self.port = 0
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await _Conversation(self, reader, writer).hold()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        except asyncio.CancelledError:
            pass  # nobody awaits this task
        finally:
            self._open.discard(task)
            writer.close()

    async def stop(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


class _Conversation:
    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._encrypted = False
        self._login: tuple[str, str] | None = None
        self._sender = ""
        self._recipients: list[str] = []

    async def hold(self) -> None:
        self._say("220 fake")
        while line := await self._reader.readline():
            word, _, rest = line.decode().rstrip("\r\n").partition(" ")
            command = f"{word.upper()} {rest}".rstrip()
            if command == self._server.silent_at:
                continue
            refusal = next((said for words, said in self._server.refuse.items() if command.startswith(words)), None)
            if refusal is not None:
                self._say(refusal)
            elif await self._answer(command):
                return

    def _say(self, text: str) -> None:
        self._writer.write(f"{text}\r\n".encode())

    async def _answer(self, command: str) -> bool:
        """Whether that was the last one."""
        word, _, rest = command.partition(" ")
        match word:
            case "EHLO":
                self._say("250-fake")
                self._say("250 AUTH PLAIN" if self._encrypted else "250 STARTTLS")
            case "STARTTLS":
                self._say("220 go on")
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(self._server.certificate.cert, self._server.certificate.key)
                await self._writer.start_tls(context)
                self._encrypted = True
            case "AUTH":
                _, user, password = base64.b64decode(rest.removeprefix("PLAIN ")).decode().split("\0")
                self._login = user, password
                self._say("235 welcome")
            case "MAIL":
                self._sender, self._recipients = _address(rest), []
                self._say("250 ok")
            case "RCPT":
                self._recipients.append(_address(rest))
                self._say("250 ok")
            case "DATA":
                self._say("354 go on")
                self._keep(await self._reader.readuntil(b"\r\n.\r\n"))
                self._say("250 taken")
            case "QUIT":
                self._say("221 bye")
                return True
            case _:
                self._say("250 ok")
        return False

    def _keep(self, data: bytes) -> None:
        message = email.message_from_bytes(data[:-3], policy=email.policy.default)
        self._server.received.append(Received(self._sender, self._recipients, message, self._encrypted, self._login))


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


@contextlib.asynccontextmanager
async def smtp_server(certificate: Certificate) -> AsyncIterator[SmtpServer]:
    """One on 127.0.0.1, at its `port`."""
    fake = SmtpServer(certificate)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await fake.stop()
