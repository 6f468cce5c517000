"""The real packet program on a veth pair in a namespace of its own, and the frames that tests send through it.

Frames go in by BPF_PROG_TEST_RUN; nothing is on any wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from lb import abi, bpf
from lb.connections import Rows, empty
from lb.datapath import DataPath, pins
from lb.datapath.compiler import EMBRYOS
from lb.datapath.embryos import Batch, Embryos, as_connections
from lb.datapath.view import View
from lb.model import Connections
from lb.service import LOCAL, Destination, Service, ServiceKey, Way

NODE = f"test-{os.getpid()}"
INTERFACE = "lbt0"
OUR_MAC = "02:00:00:00:00:01"
CLIENT_MAC = "02:00:00:00:00:02"
CLIENT = "10.0.0.1"
VIRTUAL = IPv4Address("192.0.2.10")
CLIENT6 = "2001:db8:c::1"
VIRTUAL6 = IPv6Address("2001:db8::10")
TCP_KEY = ServiceKey(VIRTUAL, 80, 6)
UDP_KEY = ServiceKey(VIRTUAL, 53, 17)
TCP6_KEY = ServiceKey(VIRTUAL6, 80, 6)
UDP6_KEY = ServiceKey(VIRTUAL6, 53, 17)
SETTINGS = Connections(max=65_536)
CPUS = sorted(os.sched_getaffinity(0))

_CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def network_namespace() -> Iterator[None]:
    """This thread, and those it starts, in a new namespace with a veth pair; back in the old one afterwards."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            add_interface()
            yield
        finally:
            if _libc.setns(before, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(before)


def add_interface(name: str = INTERFACE, mac: str = OUR_MAC) -> None:
    """A veth pair whose one end has this name."""
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="veth", address=mac, peer={"ifname": f"{name}p"})
        for index in (ip.link_lookup(ifname=name)[0], ip.link_lookup(ifname=f"{name}p")[0]):
            ip.link("set", index=index, state="up")


def remove_interface(name: str = INTERFACE) -> None:
    """And its peer."""
    with IPRoute() as ip:
        ip.link("del", index=ip.link_lookup(ifname=name)[0])


def set_mac(mac: bytes, name: str = INTERFACE) -> None:
    """Give the interface this MAC; nothing is done if it has it."""
    with IPRoute() as ip:
        (link,) = ip.get_links(ip.link_lookup(ifname=name)[0])
        if link.get_attr("IFLA_ADDRESS") != mac.hex(":"):
            ip.link("set", index=link["index"], address=mac.hex(":"))


def attached_program(name: str = INTERFACE) -> int | None:
    """What `ip link` shows as prog/xdp id."""
    with IPRoute() as ip:
        (link,) = ip.get_links(ip.link_lookup(ifname=name)[0])
        number: int | None = link.get_nested("IFLA_XDP", "IFLA_XDP_PROG_ID")
        return number


def mac_of(number: int) -> bytes:
    """The MAC of the real with that number."""
    return bytes((2, 0, 0, 0, 1, number))


def real(number: int, weight: int = 1, resolved: bool = True, share: int | None = None) -> Destination:
    """192.0.2.(100 + number)."""
    address = IPv4Address("192.0.2.100") + number
    return Destination(address, weight, mac_of(number) if resolved else None, share)


def tunnelled(number: int, mtu: int = 1500, source: str = "192.0.2.1", weight: int = 1) -> Destination:
    """198.51.100.(100 + number), by the router with the MAC of that number."""
    address = IPv4Address("198.51.100.100") + number
    way = Way(IPv4Address(source), mtu)
    return Destination(address, weight, mac_of(number), forward="ipip", way=way)


def real6(number: int, weight: int = 1, resolved: bool = True, share: int | None = None) -> Destination:
    """The same host at 2001:db8::(100 + number), 100 being decimal."""
    return replace(real(number, weight, resolved, share), address=IPv6Address("2001:db8::") + 100 + number)


def limited(number: int, upper: int, lower: int = 0, weight: int = 1) -> Destination:
    """The same with thresholds."""
    return replace(real(number, weight), upper=upper, lower=lower)


def tcp(flags: str = "S", port: int = 1000, client: str = CLIENT, virtual: object = VIRTUAL, dport: int = 80) -> bytes:
    """A segment from a client."""
    frame = Ether(dst=OUR_MAC, src=CLIENT_MAC) / IP(src=client, dst=str(virtual)) / TCP(sport=port, dport=dport)
    frame[TCP].flags = flags
    return bytes(frame / b"payload")


def udp(port: int = 1000, client: str = CLIENT, virtual: object = VIRTUAL, dport: int = 53) -> bytes:
    """A datagram from a client."""
    ends = IP(src=client, dst=str(virtual)) / UDP(sport=port, dport=dport)
    return bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / ends / b"payload")


def tcp6(
    flags: str = "S", port: int = 1000, client: str = CLIENT6, virtual: object = VIRTUAL6, dport: int = 80
) -> bytes:
    """A segment from an IPv6 client."""
    return in_ipv6(TCP(sport=port, dport=dport, flags=flags) / b"payload", client, virtual)


def udp6(port: int = 1000, client: str = CLIENT6, virtual: object = VIRTUAL6, dport: int = 53) -> bytes:
    """A datagram from an IPv6 client."""
    return in_ipv6(UDP(sport=port, dport=dport) / b"payload", client, virtual)


def in_ipv6(inner: Packet | bytes, client: str = CLIENT6, virtual: object = VIRTUAL6, **fields: Any) -> bytes:
    """A frame with an IPv6 packet for us. fields: of its header."""
    return bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / IPv6(src=client, dst=str(virtual), **fields) / inner)


def gated(frame: bytes, mac: bytes) -> tuple[int, bytes]:
    """Verdict and bytes of a frame that goes to the real with this MAC: nothing else in it changes."""
    return bpf.TX, mac + bytes.fromhex(OUR_MAC.replace(":", "")) + frame[12:]


def passed(frame: bytes) -> tuple[int, bytes]:
    """Verdict and bytes of a frame that the kernel gets untouched."""
    return bpf.PASS, frame


def dropped(frame: bytes) -> tuple[int, bytes]:
    """Verdict and bytes of a frame that goes nowhere, untouched."""
    return bpf.DROP, frame


@contextlib.contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """Frames sent within come in on this CPU: the first for even numbers, the last for odd ones."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPUS[-(number % 2)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class World:
    """A data path and the node's name."""

    data: DataPath
    node: str

    @classmethod
    def open(
        cls,
        node: str = NODE,
        settings: Connections = SETTINGS,
        attach: str = "auto",
        interfaces: Sequence[str] = (INTERFACE,),
    ) -> World:
        """Nothing is applied yet."""
        return cls(asyncio.run(DataPath.open(node, interfaces, settings, attach)), node)

    def apply(self, *services: Service) -> None:
        """See DataPath.apply."""
        asyncio.run(self.data.apply(services))

    def apply_reals(self, *reals: Destination, fallback: Destination | None = None, scheduler: str = "rr") -> None:
        """One TCP and one UDP service with the same reals."""
        self.apply(*(Service(key, scheduler, reals, fallback) for key in (TCP_KEY, UDP_KEY)))

    def send(self, frame: bytes) -> tuple[int, bytes]:
        """The verdict, and the bytes that leave."""
        verdict, out, _ = bpf.run_program(self.data.program_fd, frame)
        return verdict, out

    def real_of(self, frame: bytes) -> int:
        """The number of the real that a frame is sent to."""
        verdict, out = self.send(frame)
        assert verdict == bpf.TX
        assert (verdict, out) == gated(frame, out[:6])
        return out[5]

    @contextlib.contextmanager
    def counting(self, **expected: int) -> Iterator[None]:
        """What is done within moves these counters by so much, and no other (rx_packets is their sum)."""
        before = self.data.counters()
        yield
        after = self.data.counters()
        moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        if packets := sum(count for name, count in expected.items() if name != "events_lost"):
            expected = {"rx_packets": packets, **expected}
        assert moved == expected

    def forget(self) -> None:
        """No connection, no event, no lease, no retired real, nobody answered."""
        self.forget_connections()
        for keys, _ in self.maps["datagrams"].batches():
            self.maps["datagrams"].delete(keys.copy())
        self.maps["paces"].update(np.zeros(1), self.maps["paces"].empty(1))
        for _ in range(2):
            self.data.sweep()
        self.data.read_events()
        self.data.read_earlies()
        self.data.refer_to([bytes(6)], 0)
        self.data.renew_lease(0)
        answered = self.maps["answered"]
        answered.update(np.zeros(1), answered.empty(1))

    def forget_connections(self) -> None:
        """No connection, and none by heart."""
        for table in self.data._maps().tables():
            for keys, _ in table.batches():
                table.delete(keys.copy())
        for young in self.embryos():
            young.forget()
        self.data._maps().raise_epochs()

    @property
    def maps(self) -> dict[str, bpf.Map]:
        """The lasting maps, by name."""
        return self.data._maps().maps

    def embryos(self) -> list[Embryos]:
        """The tables of half-open connections, one a family."""
        return [Embryos(self.maps[name]) for name in EMBRYOS if name in self.maps]

    def half_open(self) -> list[Any]:
        """Connections of which one packet came, as the kernel holds them."""
        return [entry for table in self.embryos() for _, entries in table.batches() for entry in entries]

    def entries(self, half_open: bool = True) -> list[tuple[Any, Any]]:
        """Key and value of each connection, as the kernel holds them; half-open ones as if they were whole."""
        tables = self.data._maps().tables()
        batches = [(keys.copy(), values.copy()) for table in tables for keys, values in table.batches()]
        if half_open:
            for young in self.embryos():
                batches += (
                    as_connections(entries, tables[0].value, time.monotonic_ns()) for _, entries in young.batches()
                )
        return [pair for keys, values in batches for pair in zip(keys, values, strict=True)]

    def entry(self) -> Any:
        """The value of the only connection."""
        ((_, value),) = self.entries()
        return value

    def edit(self, **fields: int) -> None:
        """Set fields of every connection of IPv4, half-open ones included, which become whole unless only their age is
        set. A time before the machine's start is one too: clocks wrap."""
        if fields.keys() != {"last_seen_t"}:
            self.make_whole()
        for key, value in self.entries(half_open=False):
            for name, number in fields.items():
                value[name] = int(number) % (1 << 32)
            self.maps["connections"].update(np.array([key]), np.array([value]))
        for table in self.embryos():
            for places, entries in table.batches():
                entries["seen_m"] = (fields["last_seen_t"] << abi.TICK_SHIFT - abi.MOMENT_SHIFT) % (1 << 32)
                table.write(places, entries)
        self.data._maps().raise_epochs()

    def make_whole(self) -> None:
        """As if the second packet of every connection of IPv4 had come, and had changed nothing."""
        (table, *_) = self.embryos()
        for places, entries in table.batches():
            keys, values = as_connections(entries, self.maps["connections"].value, time.monotonic_ns())
            self.maps["connections"].update(keys, values)
            table.let_go(Batch(places, entries), np.ones(len(places), np.bool_))

    def edit_all(self, **fields: int) -> None:
        """The same for many connections."""
        self.make_whole()
        for keys, values in self.maps["connections"].batches():
            for name, number in fields.items():
                values[name] = int(number) % (1 << 32)
            self.maps["connections"].update(keys, values)
        self.data._maps().raise_epochs()

    def age(self, ticks: int) -> None:
        """As if so much time had gone by since every connection's last packet."""
        self.edit(last_seen_t=View.now_t() - ticks)

    def events(self) -> Rows:
        """What waits in the rings, all of one family."""
        return only_family(self.data.read_events())

    def rows(self) -> Rows:
        """All connections, which are of one family."""
        return only_family(self.data._maps().snapshot(half_open=True))

    def states(self) -> list[int]:
        """Of all connections, by client port."""
        rows = self.rows()
        states: list[int] = np.sort(rows, order="client_port")["state"].tolist()
        return states

    def close(self) -> None:
        """Leave nothing."""
        self.data.close(detach=True)
        pins.remove_node(self.node)


def ageless(rows: Rows) -> list[Any]:
    """Without their ages: a tick may have passed since."""
    return [fields[:-1] for fields in rows.tolist()]


def only_family(families: tuple[Rows, ...]) -> Rows:
    """The rows, if they are all of one family."""
    rows, *others = [rows for rows in families if len(rows)] or [empty()]
    assert not others
    return rows


def local() -> Destination:
    """This director itself."""
    return Destination(LOCAL, 1)


def meanwhile(monkeypatch: pytest.MonkeyPatch, of: type, step: str, *happens: Callable[[], object]) -> None:
    """The next time that this method is called, these come first."""
    method = getattr(of, step)

    def late(*given: object) -> object:
        monkeypatch.setattr(of, step, method)
        for each in happens:
            each()
        return method(*given)

    monkeypatch.setattr(of, step, late)
