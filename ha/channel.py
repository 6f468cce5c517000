"""One authenticated session over TCP, made or accepted, and the question whether a process still listens. Edge."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from enum import Enum
from typing import Final

from ha.session import Broken, Greeting, Session

GREETING_S: Final = 2.0
"""Who has not proved itself by then is closed on."""

SILENCE_S: Final = 4
"""After so long without a sign of the other end's kernel a session is over."""

_READ: Final = 1 << 16
_PROBES: Final = 20
_PROBE_PAUSE_S: Final = 0.005


class Channel:
    """An established session. peer: who is at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session) -> None:
        assert session.peer is not None
        self.peer: Greeting = session.peer
        self._reader, self._writer, self._session = reader, writer, session
        self.early: list[bytes] = []
        _keep_alive(writer)

    async def receive(self) -> list[bytes]:
        """The payloads that came next; empty at the end of the stream. Raises Broken, OSError."""
        while not self._reader.at_eof():
            if self.early:
                payloads, self.early = self.early, []
            else:
                payloads = list(self._session.receive(await self._reader.read(_READ)))
            if payloads:
                return payloads
        return []

    async def send(self, payload: bytes) -> None:
        """Returns when the stream can take more. Raises OSError."""
        if self._writer.is_closing():  # else what comes depends on the loop: uvloop's transports raise RuntimeError
            raise ConnectionResetError(errno.ECONNRESET, "the sync session has ended")
        self._session.send(payload)
        self._writer.write(self._session.data_to_send())
        await self._writer.drain()

    async def close(self) -> None:
        """Send what is left, for a moment at most, then close."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PROBE_PAUSE_S * _PROBES):
                await self._writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        """Close now."""
        self._writer.transport.abort()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let the kernel ask once a second. A peer that gave the session up while no cable was in would never be found out
    by who only waits for what it sends."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session) -> Channel | None:
    """Exchange greetings and first frames. None: the other end closed without having said a word.

    Raises Broken, OSError, and TimeoutError after GREETING_S; the stream is closed then.
    """
    heard = False
    try:
        async with asyncio.timeout(GREETING_S):
            while not session.established:
                writer.write(session.data_to_send())
                await writer.drain()
                data = await reader.read(_READ)
                if not data:
                    break
                heard = True
                early = list(session.receive(data))
            else:
                writer.write(session.data_to_send())
                channel = Channel(reader, writer, session)
                channel.early = early
                return channel
    except BaseException:
        writer.transport.abort()
        raise
    writer.transport.abort()
    if heard:
        raise Broken("refused")
    return None


class Verdict(Enum):
    """What a probe found."""

    LISTENS = "listens"
    GONE = "gone"
    UNKNOWN = "unknown"


async def probe(address: str, port: int, source: str) -> Verdict:
    """Does a process listen there? GONE: its host lives and refuses, so the process has ended.

    A connection that is accepted and closed without a greeting is tried again: the kernel may have been in the
    middle of closing the sockets of a dying process.
    """
    for _ in range(_PROBES):
        try:
            async with asyncio.timeout(GREETING_S):
                reader, writer = await asyncio.open_connection(address, port, local_addr=(source, 0))
                try:
                    if await reader.read(1):
                        return Verdict.LISTENS
                finally:
                    writer.transport.abort()
        except ConnectionRefusedError:
            return Verdict.GONE
        except ConnectionResetError:
            pass
        except (OSError, TimeoutError):
            return Verdict.UNKNOWN
        await asyncio.sleep(_PROBE_PAUSE_S)
    return Verdict.UNKNOWN
