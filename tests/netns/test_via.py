"""Checks that go to the virtual's address, on a real cable: both families, TCP and UDP, active and standby."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lb import namespaces, netif
from lb.addresses import Address
from lb.datapath.probing import NETWORKS, Behind, Probing
from lb.model import Check
from lb.probes import Outcome, Target
from lb.service import PROTOCOL_NUMBERS, ServiceKey
from tests.netns.conftest import ip
from tests.netns.test_ways import mac_of
from tests.probes.asking import SHORT, SHORT_S, once

OURS = IPv4Address("10.77.0.1")
REALS: dict[int, Address] = {4: IPv4Address("10.77.0.2"), 6: IPv6Address("fd77::2")}
VIRTUALS: dict[int, Address] = {4: IPv4Address("10.77.0.105"), 6: IPv6Address("fd77::105")}
PROBES: dict[int, Address] = {family: network[1] for family, network in NETWORKS.items()}
SOCKETS = {4: socket.AF_INET, 6: socket.AF_INET6}
PORT, OWN_PORT = 80, 81
"""Where the real listens as the virtual, and where only as itself."""

FAMILY = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
ROLE = pytest.mark.parametrize("active", [True, False], ids=["active", "standby"])


@pytest.fixture
def here(segment: tuple[str, str]) -> Iterator[str]:
    """The director's namespace, entered; the real's is on the other end of the cable, with both virtual addresses."""
    director, real = segment
    for namespace, address in ((director, "fd77::1/64"), (real, "fd77::2/64")):
        ip("-n", namespace, "address", "add", address, "dev", "eth0", "nodad")
    for virtual in VIRTUALS.values():
        ip("-n", real, "address", "add", f"{virtual}/{virtual.max_prefixlen}", "dev", "lo")
    with namespaces.inside(real, "there"):
        for name, value in (("arp_ignore", 1), ("arp_announce", 2)):
            Path(f"/proc/sys/net/ipv4/conf/all/{name}").write_text(str(value))
    with namespaces.inside(director, "here"):
        yield director


@contextlib.asynccontextmanager
async def listening(namespace: str, family: int) -> AsyncIterator[None]:
    """On the virtual's address at PORT, on the real's own at OWN_PORT: says who it was asked as."""
    with contextlib.ExitStack() as opened:
        with namespaces.inside(namespace, "there"):
            places = [(VIRTUALS[family], PORT), (REALS[family], OWN_PORT)]
            kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
            sockets = [opened.enter_context(_bound(family, kind, *place)) for place in places for kind in kinds]
        loop = asyncio.get_running_loop()
        for tcp, udp in zip(sockets[::2], sockets[1::2], strict=True):
            server = await asyncio.start_server(_serve, sock=tcp)
            opened.callback(server.close)
            transport, _ = await loop.create_datagram_endpoint(_Echo, sock=udp)
            opened.callback(transport.close)
        yield


def _bound(family: int, kind: int, address: Address, port: int) -> socket.socket:
    made = socket.socket(SOCKETS[family], kind)
    made.bind((str(address), port))
    return made


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(f"asked as {writer.get_extra_info('sockname')[0]}\n".encode() * 1000)  # several segments
    writer.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, _data: bytes, sender: tuple[str, int]) -> None:
        self.transport.sendto(f"asked as {self.transport.get_extra_info('sockname')[0]}\n".encode(), sender)


def asked(family: int, over: str, port: int = PORT, **check: Any) -> Target:
    """A question about the real as the virtual."""
    service = ServiceKey(VIRTUALS[family], port, PROTOCOL_NUMBERS[over])
    return Target(PROBES[family], port, Check(via="virtual", **{"timeout": 5.0, **check}), service)


@contextlib.asynccontextmanager
async def led(namespace: str) -> AsyncIterator[None]:
    """The probe addresses stand for the virtuals on the real."""
    probing = Probing("eth0", OURS)
    try:
        await probing.open({4, 6})
        mac = mac_of(namespace)
        probing.update({PROBES[family]: Behind(virtual, mac) for family, virtual in VIRTUALS.items()})
        assert probing.leads(PROBES[6])
        yield
    finally:
        probing.close()


def questions(family: int) -> list[Target]:
    """Over TCP and UDP, with an answer and without."""
    said = f"^asked as {VIRTUALS[family]}$"
    return [
        asked(family, "tcp", type="negotiate", service="simpletcp", request="x", receive=said),
        asked(family, "tcp"),
        asked(family, "udp", type="negotiate", service="simpleudp", request="x", receive=said),
        asked(family, "udp", type="connect"),
    ]


@FAMILY
@ROLE
def test_a_real_is_asked_as_its_virtual(segment: tuple[str, str], here: str, family: int, active: bool) -> None:
    """From the active director, whose own address the virtual's is as well, and from the standby."""
    _, there = segment
    if active:
        netif.add_address("eth0", VIRTUALS[family])

    async def main() -> list[Outcome]:
        async with led(there), listening(there, family):
            return [await once(target) for target in questions(family)]

    outcomes = uvloop.run(main())
    assert [outcome.ok for outcome in outcomes] == [True] * 4, outcomes
    assert [outcome.reason for outcome in outcomes] == [
        *("answered as expected", "connected", "answered as expected"),
        f"answered {len(f'asked as {VIRTUALS[family]} ')} bytes",
    ]
    assert_nothing_is_left(here)


@FAMILY
@ROLE
@pytest.mark.parametrize("over", ["tcp", "udp"])
@pytest.mark.usefixtures("here")
def test_who_listens_elsewhere_is_found(segment: tuple[str, str], family: int, active: bool, over: str) -> None:
    """Over UDP by the error that comes back."""
    _, there = segment
    if active:
        netif.add_address("eth0", VIRTUALS[family])

    async def main() -> Outcome:
        async with led(there), listening(there, family):
            return await once(asked(family, over, OWN_PORT, type="connect"))

    said = uvloop.run(main())
    assert (said.ok, said.reason) == (
        False, f"refused, asked as {VIRTUALS[family]} (does the service listen on it?)",
    )  # fmt: skip


@FAMILY
@pytest.mark.parametrize("over", ["tcp", "udp"])
@pytest.mark.usefixtures("here")
def test_who_lacks_the_address_is_found(segment: tuple[str, str], family: int, over: str) -> None:
    _, there = segment
    virtual = VIRTUALS[family]
    ip("-n", there, "address", "del", f"{virtual}/{virtual.max_prefixlen}", "dev", "lo")
    kind: dict[str, Any] = {"service": f"simple{over}", "type": "negotiate", "request": "x", "receive": "x"}

    async def main() -> Outcome:
        async with led(there):
            return await once(asked(family, over, timeout=SHORT_S, **kind))

    said = uvloop.run(main())
    assert (said.ok, said.reason) == (False, f"{SHORT}, asked as {virtual} (has the real that address on lo?)")


def assert_nothing_is_left(namespace: str) -> None:
    """Of routes, neighbours and programs."""
    for family in ("-4", "-6"):
        assert " proto 108 " not in ip(family, "-n", namespace, "route", "show")
        assert "02:00:00:00:00:00" not in ip(family, "-n", namespace, "neigh", "show")
    assert "clsact" not in ip("netns", "exec", namespace, "tc", "qdisc", "show", "dev", "eth0")
