"""Servers on loopback for tests and benchmarks: a real nginx, and bad servers of every kind in asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

READY_WITHIN_S = 10.0

_NGINX = """
daemon off;
{user}
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {http}
}}
"""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(directory: Path, http: str, port: int) -> Iterator[None]:
    """nginx with this `http` block as a process of its own; answering on `port` from here on, gone afterwards."""
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must be able to read the test's directory
    config.write_text(_NGINX.format(directory=directory, http=http, user=user))
    process = subprocess.Popen(
        ["/usr/sbin/nginx", "-p", str(directory), "-e", f"{directory}/error.log", "-c", str(config)],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not _listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {(directory / 'error.log').read_text()}")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(READY_WITHIN_S)


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bad_certificate(directory: Path) -> tuple[Path, Path]:
    """Certificate and key, PEM: self-signed, expired long ago and in a name that nobody asks for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody.invalid")])
    day = dt.datetime(2001, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class Served:
    """A server under way. connections: how many it has accepted."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0


@contextlib.asynccontextmanager
async def serve(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    """`handler` for every connection to a free port of loopback; connections are cut at the end."""
    served = Served()
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, backlog=4096, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Accepts, hears everything and says nothing until the other side gives up."""
    while await reader.read(65536):
        pass


def says(*pieces: bytes, pause_s: float = 0.0, hang: bool = False) -> Handler:
    """Waits for a request, sends the pieces with a pause after each, then closes, or hangs."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if hang:
            await silent(reader, writer)
        writer.write_eof()
        await silent(reader, writer)

    return handler


def says_first(greeting: bytes, answers: Mapping[bytes, bytes] = MappingProxyType({})) -> Handler:
    """Greets, then answers lines as it was told and others not at all."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            writer.write(answers.get(line, b""))

    return handler


def page(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """A complete HTTP/1.1 answer."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def close_at_once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and closes."""
    writer.close()


@cache
def _let_uvloop_open_what_it_keeps() -> None:
    uvloop.run(asyncio.sleep(0))


def open_files() -> set[tuple[str, str]]:
    """The descriptors of this process, each with what it is. Outside of a loop.

    To compare, not to count: the garbage collector may close meanwhile what an earlier test left to it.
    """
    _let_uvloop_open_what_it_keeps()
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add((descriptor.name, str(descriptor.readlink())))
    return found


async def until(condition: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
    """Wait for a condition; TimeoutError if it does not come."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of events
            await asyncio.sleep(0.002)
