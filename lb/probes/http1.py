"""One page over HTTP/1.1, on a connection of its own.

aiohttp's client is made for other work: pools, cookies, redirects and proxies cost it twice what the exchange takes.
Its parser is used all the same, with its limits and its ways of saying what was wrong.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache, partial
from typing import NamedTuple

from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from lb.model import Check
from lb.probes.base import Failed, Target, connecting, password_of
from lb.probes.tls import context_of

HEADERS = {"User-Agent": "lbctl", "Accept": "*/*", "Accept-Encoding": "identity"}
"""Of every request: the body is asked for uncompressed, so that its limit bounds memory too."""


class Page(NamedTuple):
    """The beginning of an answer. location: where it redirects to. tls: of its connection."""

    status: int
    location: str | None
    content: StreamReader
    tls: ssl.SSLObject | None


@contextlib.asynccontextmanager
async def page(target: Target, url: URL) -> AsyncIterator[Page]:
    """Ask the real for a page under the name that its URL has. The connection ends with the context.

    Raises Failed, OSError, aiohttp.ClientError.
    """
    check, loop = target.check, asyncio.get_running_loop()
    encrypted = url.scheme == "https"
    async with connecting(check):
        transport, protocol = await loop.create_connection(
            partial(ResponseHandler, loop),
            str(target.address),
            target.port,
            ssl=context_of(check) if encrypted else None,
            server_hostname=(check.sni or url.host or "").rstrip(".") if encrypted else None,
        )
    try:
        protocol.set_response_params(skip_payload=check.method == "HEAD", read_until_eof=True, auto_decompress=False)
        transport.write(_head(check.method, url) + _lines(authorization(check)) + b"\r\n")
        message, content = await _final(protocol)
        yield Page(message.code, message.headers.get("Location"), content, transport.get_extra_info("ssl_object"))
    finally:
        transport.abort()


def authorization(check: Check) -> dict[str, str]:
    """The header that says who asks; empty where nobody logs in. Source: RFC 7617."""
    if not check.login:
        return {}
    words = base64.b64encode(f"{check.login}:{password_of(check)}".encode()).decode()
    return {"Authorization": f"Basic {words}"}


@lru_cache(maxsize=16384)
def _head(method: str, url: URL) -> bytes:
    """The request but for its end. Whatever a URL is made of, yarl leaves no blank and no end of a line in it."""
    headers = {"Host": url.host_port_subcomponent or "", **HEADERS, "Connection": "close"}
    return f"{method} {url.raw_path_qs} HTTP/1.1\r\n".encode() + _lines(headers)


def _lines(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


async def _final(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    """The answer that comes after those that announce it (RFC 9110 section 15.2)."""
    while True:
        try:
            message, content = await protocol.read()
        except HttpProcessingError as error:
            raise Failed(not_http(error.message)) from error
        if not 100 <= message.code < 200 or message.code == 101:
            return message, content


def not_http(words: str) -> str:
    """The reason where something else is spoken."""
    return f"not HTTP: {words.splitlines()[0][:100]}"
