"""Every check that asks over the network against servers that mean no good.

One contract for all of them: the verdict is a failure, it comes within the check's time, its reason is short and no
fault of the check's own, nothing stays open, and no more than a few megabytes are read, however many are sent.
"""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from typing import Any

import pytest
import uvloop

from lb.health import Outcome
from lb.kinds import KINDS
from lb.probes.base import LIMIT
from tests.probes.asking import SHORT, SHORT_S, judge, once, target
from tests.servers import Handler, close_at_once, free_port, open_files, serve, silent

LOGIN = {"login": "jane", "passwd": "hunter2"}
ASKED: dict[str, dict[str, Any]] = {
    "http": {},
    "https": {},
    "http_proxy": {"request": "http://elsewhere.invalid/"},
    "http2": {},
    "grpc": {},
    "ftp": {**LOGIN, "request": "health.txt"},
    "smtp": LOGIN,
    "pop": LOGIN,
    "imap": LOGIN,
    "nntp": {},
    "ldap": {**LOGIN, "request": "dc=test"},
    "ldaps": LOGIN,
    "mysql": LOGIN,
    "postgresql": LOGIN,
    "redis": {**LOGIN, "request": "GET key"},
    "dns": {"request": "www.test"},
    "sip": {},
    "radius": {**LOGIN, "secret": "shh"},
    "simpletcp": {"request": "hello", "receive": "^world$"},
    "simpleudp": {"request": "hello", "receive": "^world$"},
}
"""Every service, with what it needs."""

UDP = [name for name in ASKED if "udp" in KINDS["negotiate", name].transports]
TCP = [name for name in ASKED if "tcp" in KINDS["negotiate", name].transports]
TLS = [name for name in TCP if "on" in KINDS["negotiate", name].tls or KINDS["negotiate", name].always]
NEGOTIATED = ("mysql", "postgresql")
"""Agree upon TLS in words of their own first."""

every_tcp = pytest.mark.parametrize("service", TCP)
every_udp = pytest.mark.parametrize("service", UDP)

GREETINGS = {
    "ftp": b"220 ready\r\n",
    "smtp": b"220 ready\r\n250 OK\r\n235 OK\r\n",
    "pop": b"+OK ready\r\n",
    "imap": b"* OK ready\r\n",
    "nntp": b"200 ",
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
    "http_proxy": b"HTTP/1.1 200 OK\r\n\r\n",
    "mysql": b"\x4a\x00\x00\x00\x0a5.5.5-10.11\x00",
    "postgresql": b"R\x00\x00\x00\x08\x00\x00\x00\x00",
    "redis": b"+OK\r\n$10\r\n",
    "dns": b"\x00\x40\x00\x00",
    "sip": b"SIP/2.0 100 Trying\r\n\r\nSIP/2.0 200 OK\r\n",
    "ldap": b"\x30\x84\x00\x00\x00\x40\x02\x01\x01",
    "http2": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x01",
}
"""How an answer of each protocol begins."""


def test_every_service_is_here() -> None:
    assert {service for type_, service in KINDS if type_ == "negotiate"} == set(ASKED)


def asked(service: str, **more: Any) -> dict[str, Any]:
    return {"service": service, **ASKED[service], **more}


def meet(handler: Handler, service: str, **more: Any) -> tuple[bool, str]:
    """What the check says of such a server; no descriptor may stay open."""

    async def main() -> Outcome:
        async with serve(handler) as served:
            return await once(target(served.port, **asked(service, **more)))

    before = open_files()
    said = uvloop.run(main())
    assert not open_files() - before
    assert len(said.reason) < 200
    assert "hunter2" not in said.reason
    return said.ok, said.reason


def sends(*pieces: bytes, pause_s: float = 0.0) -> Handler:
    """Says this unasked, whatever it hears, and closes in order."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.write_eof()
        await silent(reader, writer)

    return handler


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never says anything, even to one who has said all."""
    await silent(reader, writer)
    await asyncio.Event().wait()


@every_tcp
class TestTcp:
    def test_nobody_listens(self, service: str) -> None:
        assert judge(free_port(), **asked(service)) == (False, "refused")

    def test_silence(self, service: str) -> None:
        assert meet(mute, service, timeout=SHORT_S) == (False, SHORT)

    def test_closed_at_once(self, service: str) -> None:
        ok, reason = meet(close_at_once, service)
        assert not ok
        assert reason.startswith(("closed ", "connection reset", "broken pipe", "TLS: ", "not "))

    @pytest.mark.parametrize(
        "garbage",
        [b"\x00" * 4000, b"\xff\xfe\xfd" * 1000, b"hello, world\r\n" * 50, b"\r\n" * 500, b"0\n", b"\x30\x03\x02\x01"],
        ids=["zeros", "high", "words", "empty-lines", "digit", "short"],
    )
    def test_garbage(self, service: str, garbage: bytes) -> None:
        ok, reason = meet(sends(garbage), service, timeout=5.0)
        assert not ok
        assert reason

    def test_closed_half_way(self, service: str) -> None:
        begun = GREETINGS.get(service, b"\x16\x03\x03")
        for length in range(1, len(begun)):
            ok, _ = meet(sends(begun[:length]), service, timeout=5.0)
            # a page that ends with its connection is complete
            assert not ok or begun[:length] == GREETINGS["http"]

    def test_drop_by_drop(self, service: str) -> None:
        begun = GREETINGS.get(service, b"\x16\x03\x03\x40")
        drops = [begun[n : n + 1] for n in range(len(begun) - 1)] + [b" "] * 1000
        ok, reason = meet(sends(*drops, pause_s=SHORT_S / 10), service, timeout=SHORT_S)
        assert not ok
        assert reason == SHORT or service in ("nntp",) or reason.startswith(("not ", "TLS: "))


FLOODS = {
    "zeros": (b"", b"\x00" * 65536),
    "line": (b"", b"x" * 65536),
    "lines": (b"", b"220-x\r\n" * 9000),
    "untagged": (b"* OK hello\r\n", b"* x\r\n" * 9000),
    "array": (b"*1000000000\r\n", b"+x\r\n" * 9000),
    "bulk": (b"$1000000000\r\n", b"x" * 65536),
    "mysql": (b"", b"\xff\xff\xff\x00" + b"\x0a" * 65536),
    "postgresql": (b"", b"N\x7f\xff\xff\xff" + b"x" * 65536),
    "ldap": (b"\x30\x84\x7f\xff\xff\xff", b"\x04" * 65536),
    "frames": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678" * 4000),
    "http": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 9000),
    "sip": (b"SIP/2.0 200 OK\r\n", b"X: y\r\n" * 9000),
    "provisional": (b"", b"SIP/2.0 100 Trying\r\n\r\n" * 3000),
}
FLOODED_S = 0.3
"""Long enough for hundreds of megabytes to come."""
SPARE = 24 << 20
"""What lies in the kernel's and the loops' buffers when the check gives up, and what the test itself needs."""


@every_tcp
@pytest.mark.parametrize("flood", FLOODS)
def test_gigabytes(service: str, flood: str) -> None:
    """An endless answer: it is given up, and memory stays bounded however fast it comes."""
    begun, endless = FLOODS[flood]
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(begun)
        hearing = asyncio.create_task(silent(reader, writer))
        try:
            while True:
                writer.write(endless)
                await writer.drain()
                sent += len(endless)
        finally:
            hearing.cancel()

    tracemalloc.start()
    try:
        ok, _ = meet(handler, service, timeout=FLOODED_S)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not ok
    assert sent < LIMIT + SPARE
    assert peak < LIMIT + SPARE


@pytest.mark.parametrize("service", [name for name in TLS if name not in NEGOTIATED])
class TestTls:
    @pytest.mark.parametrize(
        "pieces",
        [[b"220 hello\r\n"], [b"\x16\x03\x03garbage" * 100], [b"\x15\x03\x03\x00\x02\x02\x28"], [b"\x16\x03\x03\x40"]],
        ids=["words", "garbage", "alert", "half"],
    )
    def test_broken(self, service: str, pieces: list[bytes]) -> None:
        ok, reason = meet(sends(*pieces), service, tls="on", timeout=5.0)
        assert not ok
        assert reason.startswith(("TLS: ", "connection reset", "closed ", "connection aborted"))

    def test_silence(self, service: str) -> None:
        assert meet(mute, service, tls="on", timeout=SHORT_S) == (False, SHORT)


@pytest.mark.parametrize(
    ("service", "refusal"),
    [("mysql", b"\x4a\x00\x00\x00\x0a5.5.5-10.11\x00" + bytes(60)), ("postgresql", b"N"), ("postgresql", b"Sgarbage")],
)
def test_databases_that_will_not_encrypt(service: str, refusal: bytes) -> None:
    ok, reason = meet(sends(refusal), service, tls="on", timeout=5.0)
    assert not ok
    assert reason


@every_udp
class TestUdp:
    def test_nobody_listens(self, service: str) -> None:
        port = free_port()
        assert judge(port, over="udp", **asked(service)) == (False, "refused")

    def test_silence(self, service: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
            assert judge(port, over="udp", **asked(service, timeout=SHORT_S)) == (False, SHORT)

    @pytest.mark.parametrize(
        ("echoed", "answer"),
        [
            (0, b""),
            (0, b"\x00"),
            (9999, b""),
            (2, b"\xff" * 40),
            (2, b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"),
            (2, b"\x00\x14" + bytes(16)),
            (0, b"SIP/2.0 999 \xff\r\n"),
            (0, bytes(60000)),
        ],
    )
    def test_garbage(self, service: str, echoed: int, answer: bytes) -> None:
        async def main() -> Outcome:
            class Peer(asyncio.DatagramProtocol):
                def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
                    self.transport = transport

                def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                    self.transport.sendto(data[:echoed] + answer, addr)

            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Peer, local_addr=("127.0.0.1", 0))
            try:
                port = transport.get_extra_info("sockname")[1]
                return await once(target(port, over="udp", **asked(service, timeout=SHORT_S)))
            finally:
                transport.close()

        said = uvloop.run(main())
        assert not said.ok
        assert len(said.reason) < 200
