"""What every probe is given and how it answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import aiohttp

from lb.addresses import Address
from lb.model import Check, format_duration
from lb.service import ServiceKey

MOST_THREADS = 256
"""How many checks with blocking libraries may be under way; beyond that they are not asked, which is no verdict."""

LIMIT = 1 << 20
"""Bytes of an answer that are read and judged, whatever the protocol; what comes after is not looked at."""


@dataclass(frozen=True, slots=True)
class Target:
    """One real as it is asked. port: where, 0 if neither check nor virtual says; service: the virtual it serves."""

    address: Address
    port: int
    check: Check
    service: ServiceKey

    @property
    def name(self) -> Address:
        """What the real is to hear as the address that was asked."""
        return self.service.address if self.check.via == "virtual" else self.address

    @property
    def family(self) -> socket.AddressFamily:
        """The sockets that reach it."""
        return socket.AF_INET6 if self.address.version == 6 else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Tools:
    """What all probes of a checker share.

    web: opens a new connection for every request. threads: for libraries that block; busy: how many of them are not.
    reach: raises Failed or NotAskedError where there is no way yet to a target.
    """

    web: aiohttp.ClientSession
    threads: ThreadPoolExecutor
    busy: asyncio.Semaphore
    reach: Callable[[Target], None]

    async def close(self) -> None:
        """Give back what they hold; no probe is under way any more."""
        await self.web.close()
        self.threads.shutdown(wait=False)


class Seen(NamedTuple):
    """What was seen of a real that passed.

    warning: what will be wrong soon, as a certificate that is about to end. weight: 0 to 65535, that its answer has
    (`dynamic_weight`).
    """

    reason: str
    warning: str = ""
    weight: int | None = None


class Failed(Exception):  # noqa: N818 - a verdict, not an error
    """The real did not pass; the message is the reason, short and for people."""


class NotAskedError(Exception):
    """This director could not ask; nothing is known of the real. str() is the reason."""


_OPENSSL_FRAME = re.compile(r"^\[\w+\] | \(_ssl\.c:\d+\)$")
"""What Python puts around the words of an error that it has no name for."""


class NotYetError(NotAskedError):
    """The same, a moment after the target came to be known; it goes without saying."""


Probe = Callable[[Target, Tools], Awaitable[Seen]]
"""Asks once. Returns what was seen of a real that passed, raises Failed or OSError for one that did not. It need not
watch the time: whoever runs it cancels it at the check's timeout."""


@contextlib.asynccontextmanager
async def connecting(check: Check) -> AsyncIterator[None]:
    """Around what makes the connection: Failed if it takes longer than `connect_timeout`."""
    try:
        async with asyncio.timeout(check.connect_timeout):
            yield
    except TimeoutError:
        raise Failed(no_connection(check)) from None


def no_connection(check: Check) -> str:
    """The reason where `connect_timeout` was over."""
    return f"no connection within {format_duration(check.connect_timeout or 0)}"


def os_reason(error: OSError) -> str:
    """What an operating system's error, or OpenSSL's, says about a real."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        words = error.reason.replace("_", " ").lower() if error.reason else _OPENSSL_FRAME.sub("", str(error))
        return f"TLS: {words}"
    if error.errno == errno.ECONNREFUSED:
        return "refused"
    return os.strerror(error.errno).lower() if error.errno else str(error).lower() or "closed before answering"


def password_of(check: Check, key: Literal["passwd", "secret"] = "passwd") -> str:
    """The password, or RADIUS secret, as it is written or as its file has it now; empty where there is none.

    Raises NotAskedError for a file that cannot be read.
    """
    written, path = getattr(check, key), getattr(check, f"{key}_file")
    if written is not None:
        return str(written.get_secret_value())
    if path is None:
        return ""
    try:
        password = Path(path).read_text().rstrip("\r\n")
        if not password.isprintable():
            raise NotAskedError(f"{key}_file {path}: more than one line, or control characters")
        return password
    except (OSError, UnicodeDecodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else "not UTF-8"
        raise NotAskedError(f"{key}_file {path}: {reason}") from error
