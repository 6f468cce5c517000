"""`negotiate` over http and https: one request, judged by status and body.

A redirect is followed, and the final answer counts, while it stays with this real: same scheme, and the host is the
real, its virtual or the check's virtualhost. Every request goes to the real's own address whatever name it carries;
a redirect to elsewhere is a failure, because a healthy elsewhere says nothing about this real. Certificates are
neither chain- nor name-checked. Source of the rules: SEED_TABLES 2.7.
"""

from __future__ import annotations

import ssl
from functools import lru_cache

import aiohttp
from yarl import URL

from lb.addresses import Address
from lb.model import Check
from lb.probes.base import Failed, Target, Tools, Weighed, no_connection
from lb.probes.match import decode, found, weight_in

BODY_LIMIT = 1 << 20
"""Bytes of a body that are read and judged; what comes after is not looked at."""
REDIRECT_LIMIT = 5
REDIRECTS = frozenset((301, 302, 303, 307, 308))


def session() -> aiohttp.ClientSession:
    """A session for probes: no connection is used twice, none waits for another, nothing is remembered.

    The body is asked for uncompressed, so that BODY_LIMIT bounds memory too.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        auto_decompress=False,
        headers={"User-Agent": "lbctl", "Accept": "*/*", "Accept-Encoding": "identity"},
    )


async def probe(target: Target, tools: Tools) -> str | Weighed:
    """Ask for the page and judge the answer."""
    check = target.check
    url = first = _first_url(check, target.address, target.port)
    try:
        for _ in range(REDIRECT_LIMIT + 1):
            async with tools.web.request(
                check.method,
                url.with_host(str(target.address)).with_port(target.port),
                headers={"Host": url.host_port_subcomponent or ""},
                server_hostname=url.host if check.virtualhost and check.service == "https" else None,
                allow_redirects=False,
                timeout=_timeout(check.connect_timeout),
            ) as answer:
                location = answer.headers.get("Location")
                if answer.status not in REDIRECTS or location is None or answer.status in check.status:
                    return await _judge(answer, check)
            url = _redirected(url, location, first, target)
    except aiohttp.ClientConnectorError as error:
        raise error.os_error from error
    except aiohttp.ConnectionTimeoutError as error:
        raise Failed(no_connection(check)) from error
    except aiohttp.ClientOSError:
        raise
    except aiohttp.ClientError as error:
        raise Failed(_reason(error)) from error
    raise Failed(f"more than {REDIRECT_LIMIT} redirects")


@lru_cache(maxsize=16384)
def _first_url(check: Check, address: Address, port: int) -> URL:
    """The request as a URL under the name that the real is to hear."""
    name = check.virtualhost or f"{address}:{port}"
    return URL(f"{check.service}://{name}{check.request}")


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
    raise Failed(f"redirected to {location[:100]!r}, which is not this real")


async def _judge(answer: aiohttp.ClientResponse, check: Check) -> str | Weighed:
    """What was seen of an answer that passes; raises Failed."""
    wanted = answer.status in check.status if check.status else 200 <= answer.status < 300
    if not wanted:
        expected = ", ".join(map(str, check.status)) or "2xx"
        raise Failed(f"status {answer.status}, expected {expected}")
    text = decode(await _read(answer.content))
    if check.receive and not await found(check.receive, text, check.timeout / 2):
        raise Failed(f"body does not match {check.receive!r}")
    seen = f"status {answer.status}"
    if check.receive and check.dynamic_weight:
        return Weighed(seen, await weight_in(check.receive, text, check.timeout / 2))
    return seen


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, at most BODY_LIMIT bytes of it."""
    body = bytearray()
    while len(body) < BODY_LIMIT and (piece := await content.readany()):
        body += piece
    return bytes(body[:BODY_LIMIT])


def _reason(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ServerDisconnectedError():
            return "closed before answering"
        case aiohttp.ClientPayloadError():
            return "closed in the middle of the answer"
        case aiohttp.ClientResponseError():
            return f"not HTTP: {error.message.splitlines()[0][:100]}"
    return f"{type(error).__name__}: {error}"
