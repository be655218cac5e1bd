"""A TLS terminator in front of a plain server, as a load balancer would be: some clients refuse to speak without TLS."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

OPENSSL = shutil.which("openssl")
_PIECE = 64 * 1024


class Certificate(msgspec.Struct, frozen=True):
    """A self-signed certificate for 127.0.0.1 and localhost, and its key: files in PEM."""

    cert: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts this certificate and no other.

        TLS 1.2: after a handshake of 1.3 come tickets, which OpenSSL reads within `recv`. A client that reads and sends in
        two threads, as the synchronous one does, races with itself there, and its request may never leave it
        (python/cpython issue 143756).
        """
        context = ssl.create_default_context(cafile=str(self.cert))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context


def self_signed(folder: Path) -> Certificate:
    """Makes a certificate with the `openssl` program."""
    made = Certificate(folder / "front.pem", folder / "front.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(made.key), "-out", str(made.cert), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    return made


@contextlib.asynccontextmanager
async def tls_front(certificate: Certificate, target: str) -> AsyncIterator[str]:
    """Passes on connections to `target`, a plain `http://host:port`. The value is its own `https://127.0.0.1:port`."""
    host, _, port = target.removeprefix("http://").partition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            theirs, ours = await asyncio.open_connection(host, int(port))
            await _join((reader, ours), (theirs, writer))
        except asyncio.CancelledError:
            writer.transport.abort()  # nobody awaits this task: it ends without a word
        finally:
            open_now.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _join(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Copies both ways at once; TLS has no half-closed connections, so the end of one way ends the other."""
    copies = [asyncio.ensure_future(_copy(reader, writer)) for reader, writer in ways]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for _, writer in ways:  # before anything is awaited, for this may be cancelled once more
            writer.close()
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        for _, writer in ways:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
