"""`negotiate` over http and https: one request, judged by status and body. And http_proxy: the same through the real.

A redirect is followed, and the final answer counts, while it stays with this real: same scheme, and the host is the
real, its virtual or the check's virtualhost. Every request goes to the real's own address whatever name it carries;
a redirect to elsewhere is a failure, because a healthy elsewhere says nothing about this real. Source of the rules:
SEED_TABLES 2.7.
"""

from __future__ import annotations

import hashlib
import ssl
from contextvars import ContextVar
from functools import lru_cache

import aiohttp
from yarl import URL

from lb.addresses import Address, with_port
from lb.model import Check
from lb.probes.base import LIMIT, Failed, Seen, Target, Tools, no_connection
from lb.probes.http1 import HEADERS, authorization, not_http, page
from lb.probes.match import judge_text
from lb.probes.tls import context_of, warning_of
from lb.wording import show

REDIRECT_LIMIT = 5
REDIRECTS = frozenset((301, 302, 303, 307, 308))

_tls: ContextVar[ssl.SSLObject | None] = ContextVar("_tls", default=None)
"""The TLS of the connection that the running probe opened last: aiohttp gives the connection back with the answer."""


class _Connector(aiohttp.TCPConnector):
    async def connect(self, *arguments: object, **options: object) -> aiohttp.connector.Connection:
        connection = await super().connect(*arguments, **options)  # type: ignore[arg-type]
        if connection.transport is not None:
            _tls.set(connection.transport.get_extra_info("ssl_object"))
        return connection


def session() -> aiohttp.ClientSession:
    """A session for probes through proxies: no connection is used twice, and none waits for another."""
    return aiohttp.ClientSession(
        connector=_Connector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        auto_decompress=False,
        headers=HEADERS,
    )


async def probe(target: Target, _tools: Tools) -> Seen:
    """Ask for the page and judge the answer."""
    check = target.check
    url = first = _first_url(check, target.name, target.port)
    try:
        for _ in range(REDIRECT_LIMIT + 1):
            async with page(target, url) as answer:
                location = answer.location
                if answer.status not in REDIRECTS or location is None or answer.status in check.status:
                    return await _judge(check, answer.status, answer.content, answer.tls)
            url = _redirected(url, location, first, target)
    except aiohttp.ClientError as error:
        raise _failure(check, error) from error
    raise Failed(f"more than {REDIRECT_LIMIT} redirects")


async def through(target: Target, tools: Tools) -> Seen:
    """Ask the real for somebody else's page, as a proxy. A redirect is an answer like any other."""
    check = target.check
    login = {f"Proxy-{key}": value for key, value in authorization(check).items()}
    try:
        async with tools.web.request(
            check.method,
            check.request or "",
            headers=login if (check.request or "").startswith("http://") else {},  # else the proxy only hears CONNECT
            proxy=f"http://{with_port(target.address, target.port)}",
            proxy_headers=login,
            ssl=context_of(check),
            allow_redirects=False,
            timeout=_timeout(check.connect_timeout),
        ) as answer:
            return await _judge(check, answer.status, answer.content, _tls.get())
    except aiohttp.ClientHttpProxyError as error:
        raise Failed(f"status {error.status} from the proxy") from error
    except aiohttp.ClientError as error:
        raise _failure(check, error) from error


def _failure(check: Check, error: aiohttp.ClientError) -> Exception:
    """What to raise for an error of aiohttp's."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failed(no_connection(check))
    if isinstance(error, aiohttp.ClientOSError):
        return error
    return Failed(_reason(error))


@lru_cache(maxsize=16384)
def _first_url(check: Check, address: Address, port: int) -> URL:
    """The request as a URL under the name that the real is to hear."""
    name = check.virtualhost or with_port(address, port)
    return URL(f"{check.service}://{name}{check.request or '/'}")


@lru_cache(maxsize=256)
def _timeout(connecting_s: float | None) -> aiohttp.ClientTimeout:
    """Of connecting and TLS alone; the whole check has its time from elsewhere."""
    return aiohttp.ClientTimeout(sock_connect=connecting_s)


def _redirected(url: URL, location: str, first: URL, target: Target) -> URL:
    """Where a redirect from `url` leads; `first` began the chain. Raises Failed if that is not this real."""
    try:
        new = url.join(URL(location))
        names = {first.host, str(target.address), str(target.service.address)}
        ports = {first.port, target.port, target.service.port}
        if new.scheme == url.scheme and new.host in names and new.port in ports:
            return new
    except ValueError:
        pass
    raise Failed(f"redirected to {show(location)}, which is not this real")


async def _judge(check: Check, status: int, content: aiohttp.StreamReader, tls: ssl.SSLObject | None) -> Seen:
    """What was seen of an answer that passes; raises Failed."""
    warning = warning_of(check, tls)
    judge_status(check, status)
    weight = await judge_body(check, await _read(content))
    return Seen(f"status {status}", warning, weight)


def judge_status(check: Check, status: int) -> None:
    """Raises Failed for a status that is not well."""
    wanted = status in check.status if check.status else 200 <= status < 300
    if not wanted:
        expected = ", ".join(map(str, check.status)) or "2xx"
        raise Failed(f"status {status}, expected {expected}")


async def judge_body(check: Check, body: bytes) -> int | None:
    """The weight in a body, if the check wants one. Raises Failed for a body that is not as the check says."""
    weight = await judge_text(check, body, "body")
    if check.digest:
        algorithm = "md5" if len(check.digest) == 32 else "sha256"
        digest = hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()
        if digest != check.digest.lower():
            raise Failed(f"{algorithm} of the body is {digest}, expected {check.digest.lower()}")
    return weight


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, at most LIMIT bytes of it."""
    body = bytearray()
    while len(body) < LIMIT and (piece := await content.readany()):
        body += piece
    return bytes(body[:LIMIT])


def _reason(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ServerDisconnectedError():
            return "closed before answering"
        case aiohttp.ClientPayloadError():
            return "closed in the middle of the answer"
        case aiohttp.ClientResponseError():
            return not_http(error.message)
    return f"{type(error).__name__}: {error}"
