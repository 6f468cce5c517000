"""A conversation over TCP, perhaps inside TLS, with a real that may be anything: nothing it sends is unbounded.

Lines of at most LINE_LIMIT bytes, LIMIT bytes altogether. The protocols on top of it are a few lines each, which is why
they use no library of their own: one way of connecting, of TLS, of limits and of saying what went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from lb.probes.base import LIMIT, Failed, Target, connecting
from lb.probes.match import decode
from lb.probes.tls import context_of, name_of, warning_of

LINE_LIMIT = 8192
"""Longest line; RFC 5321 allows 512 in an answer, others say nothing."""


class Dialogue:
    """One connection to a real. warning: about the certificate it showed."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer
        self._left = limit

    @property
    def warning(self) -> str:
        """What is to be said of the certificate, if there was one."""
        return warning_of(self._target.check, self._tls)

    @property
    def _tls(self) -> ssl.SSLObject | None:
        tls: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        return tls

    @property
    def address(self) -> tuple[str, int]:
        """Our own address and port."""
        address: tuple[str, int] = self._writer.get_extra_info("sockname")
        return address

    @property
    def protocol(self) -> str | None:
        """What was agreed upon in ALPN."""
        return self._tls.selected_alpn_protocol() if self._tls else None

    async def start_tls(self) -> None:
        """Go on inside TLS, after both sides said so."""
        target = self._target
        await self._writer.start_tls(context_of(target.check), server_hostname=name_of(target))

    def send(self, data: bytes | str) -> None:
        """Say something; text as UTF-8."""
        self._writer.write(data.encode() if isinstance(data, str) else data)

    def end(self) -> None:
        """Say that nothing more will be said, where the connection can say that."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def line(self) -> str:
        """The next line without its end. Raises Failed at the end of the connection and for one that is too long."""
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise Failed(f"a line of more than {LINE_LIMIT} bytes") from None
        except asyncio.IncompleteReadError as error:
            raise closed(bool(error.partial)) from None
        self._count(len(line))
        return decode(line).rstrip("\r\n")

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes. Raises Failed."""
        self._count(count)
        try:
            return await self._reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            raise closed(bool(error.partial)) from None

    async def some(self) -> bytes:
        """What comes next, some kilobytes at most; empty at the end of the connection. Raises Failed."""
        piece = await self._reader.read(16384)
        self._count(len(piece))
        return piece

    async def pieces(self) -> AsyncIterator[bytes]:
        """Everything up to the end of the connection, piece by piece, or the first LIMIT bytes of it."""
        while self._left > 0 and (piece := await self._reader.read(min(65536, self._left))):
            self._left -= len(piece)
            yield piece

    def _count(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Failed(f"an answer of more than {LIMIT >> 20} MiB")


def closed(begun: bool) -> Failed:
    """The real ended the connection when it should not have. begun: after a part of its answer."""
    return Failed("closed in the middle of the answer" if begun else "closed before answering")


@contextlib.asynccontextmanager
async def dialogue(
    target: Target, *protocols: str, encrypted: bool | None = None, limit: int = LIMIT
) -> AsyncIterator[Dialogue]:
    """Connect, inside TLS from the first byte where the check (or `encrypted`) says so; closed at the end.

    protocols: what is offered in ALPN. limit: bytes that are read at most.
    """
    check = target.check
    if encrypted is None:
        encrypted = check.kind.always or check.tls == "on"
    async with connecting(check):
        reader, writer = await asyncio.open_connection(
            str(target.address),
            target.port,
            ssl=context_of(check, *protocols) if encrypted else None,
            server_hostname=name_of(target) if encrypted else None,
            limit=LINE_LIMIT,
        )
    try:
        yield Dialogue(target, reader, writer, limit)
    finally:
        writer.transport.abort()
