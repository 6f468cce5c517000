"""The table of probes against the catalogue, `connect`, `on`, `off`, what is our own fault, and pattern search."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import resource
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
import uvloop

from lb import catalog
from lb.health import Outcome
from lb.kinds import KINDS, MOTLEY
from lb.model import Check
from lb.probes import PROBES, Failed, NotAskedError, Target, ask, open_tools, probe_of
from lb.probes.match import decode, found, judge_text
from lb.service import ServiceKey
from tests.servers import free_port, open_files, serve, silent

LOOPBACK = IPv4Address("127.0.0.1")


def target(port: int, check: Check, protocol: int = 6) -> Target:
    return Target(LOOPBACK, port, check, ServiceKey(IPv4Address("192.168.1.105"), port, protocol))


async def ask_once(asked: Target) -> Outcome:
    tools = open_tools()
    try:
        return await ask(asked, tools)
    finally:
        await tools.close()


def judge(asked: Target) -> tuple[bool, str]:
    """One verdict; no descriptor may stay open."""
    before = open_files()
    outcome = uvloop.run(ask_once(asked))
    assert not open_files() - before
    return outcome.ok, outcome.reason


def test_the_table_holds_what_the_catalogue_calls_available_and_nothing_else() -> None:
    types = set(catalog.available(catalog.CHECKS))
    negotiated = {("negotiate", service) for service in catalog.available(catalog.SERVICES)}
    assert set(PROBES) == set(KINDS) == negotiated | {(name, None) for name in types - {"negotiate", *MOTLEY}}


@pytest.mark.parametrize(("type_", "service"), PROBES)
def test_every_row_leads_to_a_probe(type_: str, service: str | None) -> None:
    assert inspect.iscoroutinefunction(probe_of(type_, service or "http"))


class TestConstant:
    def test_on_is_up_without_asking(self) -> None:
        assert judge(target(free_port(), Check(type="on"))) == (True, "check is 'on'")

    def test_off_is_down_even_if_somebody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert judge(target(server.getsockname()[1], Check(type="off"))) == (False, "check is 'off'")


class TestConnectTcp:
    def test_somebody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert judge(target(server.getsockname()[1], Check())) == (True, "connected")

    def test_the_connection_is_closed_in_order(self) -> None:
        async def main() -> bytes:
            ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

            async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
                ended.set_result(await reader.read())  # a reset would raise here, and the future would stay

            async with serve(handler) as served:
                await ask_once(target(served.port, Check()))
                return await asyncio.wait_for(ended, 10)

        assert uvloop.run(main()) == b""

    def test_nobody_listens(self) -> None:
        assert judge(target(free_port(), Check())) == (False, "refused")

    def test_a_full_queue_does_not_answer(self) -> None:
        """A listener that accepts nobody: the kernel drops the SYN, as a firewall or a dead host does."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                assert judge(target(port, Check(timeout=0.2))) == (False, "no answer within 200ms")


@contextlib.contextmanager
def unaccepting() -> Iterator[int]:
    """A port whose queue of connections is full: whoever comes now is not answered, as by a host that is silent."""
    with contextlib.ExitStack() as closing:
        listener = closing.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = closing.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "kind", [{"type": "connect"}, {"type": "negotiate"}, {"type": "negotiate", "service": "https"}]
)
def test_connecting_may_have_a_time_of_its_own(kind: dict[str, Any]) -> None:
    with unaccepting() as port:
        check = Check(**kind, timeout=30.0, connect_timeout=0.1)
        assert judge(target(port, check)) == (False, "no connection within 100ms")
        check = Check(**kind, timeout=0.1, connect_timeout=30.0)
        assert judge(target(port, check)) == (False, "no answer within 100ms")


def test_the_time_to_connect_is_not_that_of_the_answer() -> None:
    async def main() -> Outcome:
        async with serve(silent) as served:
            return await ask_once(target(served.port, Check(type="negotiate", timeout=0.3, connect_timeout=0.1)))

    assert uvloop.run(main()).reason == "no answer within 300ms"


class TestConnectUdp:
    def test_an_icmp_refusal_is_a_failure(self) -> None:
        assert judge(target(free_port(), Check(timeout=5.0), protocol=17)) == (False, "refused")

    def test_an_answer_is_welcome(self) -> None:
        async def main() -> Outcome:
            class Echo(asyncio.DatagramProtocol):
                def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
                    self.transport = transport

                def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                    self.transport.sendto(b"pong" + data, addr)

            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
            port = transport.get_extra_info("sockname")[1]
            outcome = await ask_once(target(port, Check(timeout=10.0), protocol=17))
            transport.close()
            return outcome

        outcome = uvloop.run(main())
        assert (outcome.ok, outcome.reason) == (True, "answered 4 bytes")

    def test_silence_is_no_refusal(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            asked = target(server.getsockname()[1], Check(timeout=0.2), protocol=17)
            assert judge(asked) == (True, "no refusal")


@pytest.mark.parametrize("check", [Check(timeout=5.0), Check(type="negotiate", timeout=5.0)])
def test_no_descriptor_left_is_our_own_fault_and_no_verdict(check: Check) -> None:
    """With no descriptor to be had there is no probe; the real must not pay for it."""

    async def main() -> None:
        tools = open_tools()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with serve(silent) as served:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                with pytest.raises(NotAskedError, match="too many open files"):
                    await ask(target(served.port, check), tools)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await tools.close()

    uvloop.run(main())


class TestMatch:
    def test_search_is_not_anchored(self) -> None:
        assert asyncio.run(found("b+", "abba", 1.0)) is True
        assert asyncio.run(found("^b+", "abba", 1.0)) is False

    def test_a_pattern_that_explodes_is_given_up_and_stops_nobody(self) -> None:
        async def main() -> int:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.001)
                    ticks += 1

            ticker = asyncio.create_task(tick())
            with pytest.raises(Failed, match=r"took more than 0\.3 s"):
                await found(r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 5000, 0.3)
            ticker.cancel()
            return ticks

        assert uvloop.run(main()) > 10

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"", ""),
            ("Größe".encode(), "Größe"),
            ("Größe".encode()[:3], "Gr"),  # cut off within a character, as at LIMIT
            ("Größe".encode("latin-1"), "Größe"),
            (b"\xff\x00", "ÿ\x00"),
        ],
    )
    def test_decoding_never_fails(self, body: bytes, text: str) -> None:
        assert decode(body) == text

    @pytest.mark.parametrize("text", ["load 40", "load 40 load 50", "load 0040"])
    def test_a_weight_in_an_answer(self, text: str) -> None:
        check = Check(receive="load ([0-9]+)", dynamic_weight=True)
        assert asyncio.run(judge_text(check, text, "answer")) == 40

    @pytest.mark.parametrize(
        ("text", "word"),
        [("load 65536", "65536"), ("load -1", "-1"), ("load ٤", "٤"), ("load 4.5", "4.5"), ("load", "")],
    )
    def test_what_is_no_weight(self, text: str, word: str) -> None:
        with pytest.raises(Failed, match=rf"^'{word}' in the answer is not a weight; accepted: 0 to 65535$"):
            asyncio.run(judge_text(Check(receive="load ?(.*)", dynamic_weight=True), text, "answer"))
