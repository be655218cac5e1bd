"""A few words with the embedded Valkey, on its unix socket."""

import asyncio
import contextlib
from pathlib import Path

import hiredis

from gateway.redisdb.command import pack
from gateway.redisdb.failures import RedisReplyError


async def ask(path: Path, *command: str, timeout_s: float) -> object:
    """The reply: bytes, int, list. RedisReplyError; OSError, a TimeoutError too, if nobody answers."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(pack(command))
            parser = hiredis.Reader(replyError=RedisReplyError.parse)
            while data := await reader.read(65536):
                parser.feed(data)
                reply: object = parser.gets()
                if isinstance(reply, RedisReplyError):
                    raise reply
                if reply is not False:
                    return reply
            raise ConnectionResetError("closed without an answer")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def shut_down(path: Path, timeout_s: float) -> bool:
    """Tells the server to write everything to disk and end; whether it obeys. It ends some time after this."""
    try:
        await ask(path, "SHUTDOWN", timeout_s=timeout_s)
    except ConnectionResetError:
        return True  # no answer but the end of the connection: it obeys
    except (OSError, RedisReplyError):
        return False
    return False
