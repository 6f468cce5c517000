"""Libraries that block, in threads: at most LIMIT bytes are read for them, and no thread outlives its check.

The connection is made in the loop, so that a silent host costs no thread. When the check's time is over it is cut under
the library's hands, which ends the library's call. More checks than MOST_THREADS at once are not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lb.model import Check
from lb.probes.base import LIMIT, MOST_THREADS, Failed, NotAskedError, Target, Tools, connecting, os_reason
from lb.probes.dialogue import closed
from lb.probes.tls import context_of

Result = TypeVar("Result")

ENDS_WITHIN_S = 1.0
"""How long a thread whose connection was cut may need to notice."""


class TooMuch(OSError):  # noqa: N818
    """The real sent more than LIMIT bytes."""


class _File:
    """What a library reads a connection through: it is refused before it reads, or makes room for, too much."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = LIMIT

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise TooMuch(f"an answer of more than {LIMIT >> 20} MiB")
        self._left -= size
        data: bytes = self._file.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Metered:
    """The part of a socket that hands out such files."""

    def makefile(self, *arguments: Any, **options: Any) -> _File:
        return _File(super().makefile(*arguments, **options))  # type: ignore[misc]


class _Socket(_Metered, socket.socket):  # type: ignore[misc]
    pass


class _TlsSocket(_Metered, ssl.SSLSocket):  # type: ignore[misc]
    pass


def tls_of(check: Check) -> ssl.SSLContext | None:
    """The context for a library that negotiates TLS itself; None where the check does without."""
    if not check.encrypted:
        return None
    context = context_of(check)
    context.sslsocket_class = _TlsSocket
    return context


async def in_thread(target: Target, tools: Tools, protocol: str, work: Callable[[socket.socket], Result]) -> Result:
    """Connect, and have `work` done with the connection, which it need not close. Raises Failed.

    protocol: what the real is expected to speak. work: whatever it raises is a failure of the real, because these
    libraries raise anything where they do not understand.
    """
    with _Socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        async with connecting(target.check):
            await asyncio.get_running_loop().sock_connect(connection, (str(target.address), target.port))
        connection.settimeout(target.check.timeout)
        with socket.socket(fileno=socket.dup(connection.fileno())) as same:  # TLS takes the connection's own away
            return await _done(tools, protocol, same, lambda: work(connection))


async def _done(tools: Tools, protocol: str, same: socket.socket, work: Callable[[], Result]) -> Result:
    if tools.busy.locked():
        raise NotAskedError(f"{MOST_THREADS} checks with blocking libraries are under way")
    async with tools.busy:
        result = asyncio.get_running_loop().run_in_executor(tools.threads, work)
        try:
            return await asyncio.shield(result)
        except Exception as error:
            for cause in _causes(error):
                traceback.clear_frames(cause.__traceback__)  # else they would hold the connection
            raise _failure(protocol, error) from None
        finally:
            with contextlib.suppress(OSError):
                same.shutdown(socket.SHUT_RDWR)
            await asyncio.wait((result,), timeout=ENDS_WITHIN_S)
            if result.done() and not result.cancelled():
                result.exception()  # has been seen


def _failure(protocol: str, error: Exception) -> Exception:
    """What a library's error says of the real."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, Failed):
            return cause
        if isinstance(cause, TooMuch):
            return Failed(str(cause))
        if isinstance(cause, TimeoutError):
            return cause
        if isinstance(cause, ssl.SSLError):
            return Failed(os_reason(cause))
        if isinstance(cause, ConnectionError):
            return closed(True)
    return Failed(f"not {protocol}: {type(error).__name__}: {str(error)[:100]}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
