"""What every probe is given and how it answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp

from lb.addresses import Address
from lb.model import Check, format_duration
from lb.service import ServiceKey


@dataclass(frozen=True, slots=True)
class Target:
    """One real as it is asked. port: where, 0 if neither check nor virtual says; service: the virtual it serves."""

    address: Address
    port: int
    check: Check
    service: ServiceKey


@dataclass(frozen=True, slots=True)
class Tools:
    """What all probes of a checker share. web: opens a new connection for every request."""

    web: aiohttp.ClientSession


class Failed(Exception):  # noqa: N818 - a verdict, not an error
    """The real did not pass; the message is the reason, short and for people."""


class Weighed(NamedTuple):
    """What was seen of a real that passed, and the weight, 0 to 65535, that its answer has (`dynamic_weight`)."""

    seen: str
    weight: int


Probe = Callable[[Target, Tools], Awaitable[str | Weighed]]
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
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if error.errno == errno.ECONNREFUSED:
        return "refused"
    return os.strerror(error.errno).lower() if error.errno else str(error)
