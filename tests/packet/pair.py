"""The reference and the real program side by side: whatever is done is done to both, and they must agree.

After each frame: verdict, bytes, counters and events. After each step of a test (`check`): the connection table, the
rows of reals and their totals, the turns.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import Counter
from dataclasses import astuple, replace
from ipaddress import IPv4Network, IPv6Address
from itertools import chain
from typing import Any

import numpy as np

from lb import abi, bpf
from lb.abi import RealFlag
from lb.addresses import Address
from lb.connections import CONNECTION, CONNECTION6, Ours, Rows
from lb.datapath import DataPath, rows
from lb.datapath.attach import interface_mac
from lb.limits import DenyList, Limits
from lb.model import Connections
from lb.reference import control
from lb.reference.control import Told
from lb.reference.embryo import Embryos
from lb.reference.load import is_active
from lb.reference.maps import (
    IPV6,
    Configuration,
    ConnectionKey,
    DatagramKey,
    Event,
    Fate,
    Maps,
    Real,
    RealKey,
    address_of,
    numbered,
)
from lb.reference.packet import receive
from lb.reference.stats import Outcome
from lb.schedule import Scheduling
from lb.service import LOCAL, LOCAL6, Destination, Service, Way
from lb.tcp import State
from tests.packet.clock import START_NS, Clock
from tests.packet.world import INTERFACE, OUR_MAC, World, limited, set_mac, tunnelled

SETTINGS = Connections(max=8_192)
VIRTUAL_MAC = bytes.fromhex("00005e000169")
MAC = bytes.fromhex(OUR_MAC.replace(":", ""))
UNREACHABLE = frozenset({Outcome.TABLE_FULL, Outcome.NO_HEADROOM})
"""Outcomes that no packet can have: an LRU table refuses nobody, and a test run has headroom."""
SET_BITS = 3
"""Half-open connections have so few sets that they move each other."""
FIRST_TURN = 2**32 - 10
"""Where a story's first program begins to count: the 32 bits that slots are computed from run over on the way."""

LIMITS = Limits(
    50_000_000,
    40,
    (
        DenyList("client", (IPv4Network("192.0.2.200/32"),)),
        DenyList("networks", (IPv4Network("255.0.0.0/8"), IPv4Network("192.0.2.200/31"))),
    ),
)
"""What stories start with: one of their clients is on both lists, one on the second."""

TUNNELLED6 = replace(tunnelled(97), address=IPv6Address("2001:db8::97"), way=Way(IPv6Address("2001:db8::1"), 1500))
LIKE_THE_INITIAL = (limited(99, 1), tunnelled(98), TUNNELLED6)
"""Reals for which the program is the one that the initial services need: another one would have to be compiled."""

ENDS = ("client", "virtual", "client_port", "virtual_port", "protocol")
"""What a connection's key and its row of the exchange format have in common, in the key's order."""

FATES = {
    abi.DATAGRAM_WAITS: Fate.WAITS,
    abi.DATAGRAM_PASSED: Fate.PASSED,
    abi.DATAGRAM_DROPPED: Fate.DROPPED,
}
WHAT = ("reals", "connections", "half-open", "turns", "lease", "loads", "datagrams")
ROWS = 512
"""Of reals that are looked at. The lowest free one is given out, and no story comes near so many."""

_SERIAL = iter(range(1_000_000))


class Pair:
    """Within a network namespace of the test's and with `clock` in force."""

    def __init__(self, clock: Clock, services: tuple[Service, ...], interfaces: tuple[str, ...] = (INTERFACE,)) -> None:
        self.clock = clock
        self._interfaces = interfaces
        self.seen: Counter[str] = Counter()
        self.maps = Maps()
        others = tuple(interface_mac(name) for name in interfaces[1:])
        timeouts_s = tuple(abi.timeouts_s(SETTINGS).items())
        self._initial = Configuration(services, MAC, timeouts_s, LIMITS, others, virtual_mac=VIRTUAL_MAC)
        self._agreed = True
        self._open()

    def _open(self) -> None:
        self.world = World.open(f"test-{os.getpid()}-pair{next(_SERIAL)}", SETTINGS, interfaces=self._interfaces)
        self.world.data._embryo_set_bits = SET_BITS
        self.reset()

    def close(self) -> None:
        """Leave nothing."""
        self.world.close()

    def reset(self) -> None:
        """As if just opened. A program that disagreed may have left anything, and is thrown away."""
        if not self._agreed:
            self._agreed = True
            self.world.close()
            self.maps = Maps()
            self._open()
            return
        self.clock.now_ns, self.clock.lag_ns = START_NS, 0
        seed = abi.embryo_seed(self.world.data._seed)
        self.maps = Maps(tunnels=self.maps.tunnels, embryos=Embryos(seed, SET_BITS))
        self.configuration = self._initial
        bare = [replace(service, destinations=(), fallback=None) for service in self._initial.services]
        bare[0] = replace(bare[0], destinations=LIKE_THE_INITIAL)
        self._tell_world(replace(self._initial, services=tuple(bare)))
        self.world.forget()
        self._counters = self._count()
        self._denied_before: Counter[str] = Counter()
        self.change()
        self._forget_allowances()
        self.world.data._denied_before.clear()
        self._denied_before.update(self.world.data.denied())
        for _ in range(2):
            self.world.data.sweep()
        self._schedules.mapped()["cursor"][:] = FIRST_TURN
        for schedule in self.maps.schedules:
            schedule.cursor = FIRST_TURN

    # ---------------------------------------------------------------- what is done to both

    def send(self, frame: bytes) -> None:
        """One frame."""
        held, opened, leased = self._held(), self._opened(), self.maps.lease.until_ns
        outcome, out = receive(self.configuration, self.maps, frame, self.clock.program_ns)
        verdict, actual = self.world.send(frame)
        told = plain(self.world.events()), self.world.data.read_earlies()
        counted = self._count() - self._counters
        events = [self._row(event) for event in self.maps.drain_events()]
        expected = events, [(_datagram(early.datagram), early.frame) for early in self.maps.drain_earlies()]
        if (verdict, actual, told) != (outcome.verdict, out, expected) or counted != self.maps.counters:
            self._disagree(
                f"frame {frame.hex()}",
                expected=(outcome.name, int(outcome.verdict), out.hex(), expected, self.maps.counters),
                actual=(verdict, actual.hex(), told, counted),
            )
        self.seen[outcome.name] += 1
        for event in events:
            self.seen[f"told {State(event[6]).name}"] += 1
        if self._opened() != opened and self._held() == held:
            self.seen["opened in an old one's place"] += 1
        if expected[1] and outcome is not Outcome.SET_ASIDE:
            self.seen["early fragments called"] += 1
        if self.maps.lease.until_ns != leased:
            self.seen["lease ended by a claim"] += 1

    def elapse(self, nanoseconds: int, lag_ns: int | None = None) -> None:
        """Let time go by. The program's clock may stand still for it, but never goes back."""
        self.clock.now_ns += nanoseconds
        if lag_ns is not None:
            self.clock.lag_ns = min(lag_ns, self.clock.lag_ns + nanoseconds)
        self.clock.set_program(self.world.node)

    def change(
        self,
        services: tuple[Service, ...] | None = None,
        mac: bytes | None = None,
        limits: Limits | None = None,
        virtual_mac: bytes | None = None,
        **timeouts: float,
    ) -> None:
        """Apply other services, another MAC of the interface, other limits, another virtual MAC, other timeouts by
        their names in the configuration."""
        now = self.configuration
        self.configuration = replace(
            now,
            services=now.services if services is None else services,
            mac=mac or now.mac,
            limits=now.limits if limits is None else limits,
            virtual_mac=now.virtual_mac if virtual_mac is None else virtual_mac,
            timeouts_s=tuple(abi.timeouts_s(SETTINGS.model_copy(update=timeouts)).items())
            if timeouts
            else now.timeouts_s,
        )
        self._tell_world(self.configuration)
        control.apply(self.maps, self.configuration)

    def restart(self) -> None:
        """The process ends, the program stays, the next process takes over."""
        self.world.data.close(detach=False)
        self.world.data = asyncio.run(DataPath.open(self.world.node, self._interfaces, SETTINGS, "auto"))
        self._denied_before.clear()
        self.world.data._embryo_set_bits = SET_BITS
        self._tell_world(self.configuration)
        control.restart(self.maps, self.configuration)

    def lease(self, seconds: float) -> None:
        """Renew it, or end it with 0."""
        self.world.data.renew_lease(seconds)
        control.renew_lease(self.maps, seconds, self.clock.now_ns)

    def refer(self, directors: tuple[bytes, ...], seconds: float) -> None:
        """Ask the first of these MACs for so long; 0 ends it."""
        self.world.data.refer_to(directors, seconds)
        control.refer_to(self.maps, directors, seconds, self.clock.now_ns)

    def sweep(self) -> None:
        """And what it found must be the same."""
        found = self.world.data.sweep()
        before = self._templates()
        expected = control.sweep(self.maps, self.configuration, self.clock.now_ns)
        after = self._templates()
        self.seen["templates prolonged"] += sum(before[key] != seen_t for key, seen_t in after.items())
        if (found.live, found.expired, found.released) != expected:
            self._disagree("sweep", expected, found)
        self.seen["swept"] += found.expired
        self.seen["rows released"] += found.released

    def install(self, told: tuple[Told, ...], ours: Ours = Ours.LATER) -> None:
        """Connections of another director."""
        of4, of6 = (tuple(one for one in told if _has_ipv6(one) == is_ipv6) for is_ipv6 in (False, True))
        families = _rows(of4, CONNECTION), _rows(of6, CONNECTION6)
        counts = [self.world.data.install(rows, ours) for rows in families]
        found = tuple(map(sum, zip(*counts, strict=True)))
        expected = control.install(self.maps, self.configuration, told, self.clock.now_ns, ours)
        if found != expected:
            self._disagree("install", expected, found)
        self.seen["installed"] += found[0]
        self.seen["of an unknown real"] += found[1]

    # ---------------------------------------------------------------- do they agree?

    def check(self) -> None:
        """Compare all maps."""
        actual, expected = self._actual(), self._expected()
        if actual != expected:
            for what, ours, theirs in zip(WHAT, expected, actual, strict=True):
                if ours != theirs:
                    self._disagree(what, _without(ours, theirs), _without(theirs, ours))

    def _disagree(self, what: str, expected: object, actual: object) -> None:
        self._agreed = False
        raise AssertionError(f"{what}\n  reference: {expected}\n  program:   {actual}")

    def _expected(self) -> tuple[object, ...]:
        reals = {
            key: (
                _flags(real),
                real.destination.mac or bytes(6),
                0 if real.retired else real.destination.weight,
                (real.packets, real.bytes, real.connections, real.repeats),
                _way(real.destination),
            )
            for key, real in self.maps.reals.items()
        }
        connections = {
            key: (entry.real, int(entry.state), entry.last_seen_t, entry.synced_t)
            for key, entry in self.maps.connections.items()
        }
        lease, denied = self.maps.lease, self.maps.denied
        lists = {deny.name: denied[deny.name] for deny in self.configuration.limits.deny}
        lasting = lease.until_ns, lease.refer_until_ns, b"".join(lease.directors).ljust(42, b"\0"), lists
        datagrams = {key: (found.fate, found.seen_t, found.first_bytes) for key, found in self.maps.datagrams.items()}
        turns = [schedule.cursor for schedule in self.maps.schedules]
        young = {one.key: (one.real, int(one.state), one.seen_m % 2**32) for one in self.maps.embryos}
        return reals, connections, young, turns, lasting, self._loads(), datagrams

    def _actual(self) -> tuple[object, ...]:
        _, held = next(self.world.maps["reals"].batches(ROWS))
        used = np.flatnonzero(held["flags"])
        _, ways = next(self.world.maps["ways"].batches(ROWS))
        names = {index: _real_key(held[index]) for index in used.tolist()}
        assert len(set(names.values())) == len(names), "a real has two rows"
        stats, _ = self.world.maps["real_stats"].lookup_each(used)
        _, counts = next(self.world.maps["loads"].batches(ROWS))
        totals = zip(
            *(stats[name].sum(axis=1).tolist() for name in ("packets", "bytes", "connections")),
            counts["repeats"][used].tolist(),
            strict=True,
        )
        reals = {
            names[index]: (
                int(held[index]["flags"]),
                held[index]["mac"].tobytes(),
                int(held[index]["weight"]),
                total,
                _held_way(held[index], ways[index]),
            )
            for index, total in zip(names, totals, strict=True)
        }
        connections = {}
        for keys, values in chain.from_iterable(table.batches() for table in self.world.data._maps().tables()):
            entries = zip(
                zip(*(map(_number, keys[name].tolist()) for name in ConnectionKey._fields), strict=True),
                *(values[name].tolist() for name in ("real", "state", "last_seen_t", "synced_t")),
                strict=True,
            )
            for key, index, *rest in entries:
                connections[ConnectionKey(*key)] = (names.get(index, index), *rest)
        young = {
            ConnectionKey(*(_number(one["key"][name].tolist()) for name in ConnectionKey._fields)): (
                names.get(int(one["real"]), int(one["real"])),
                *(int(one[name]) for name in ("state", "seen_m")),
            )
            for one in self.world.half_open()
        }
        cursors = self._schedules.read()["cursor"][: len(self.configuration.services)].tolist()
        (lease,) = self.world.maps["lease"].read()
        lasting = int(lease["until_ns"]), int(lease["refer_until_ns"]), lease["directors"].tobytes(), self._denied()
        loads = {}
        if self._counts:
            _, rows = next(self.world.maps["loads"].batches(ROWS))
            loads = {name: _load(rows[index]) for index, name in names.items()}
        return reals, connections, young, cursors, lasting, loads, self._datagrams(names)

    def _datagrams(self, names: dict[int, RealKey]) -> dict[DatagramKey, object]:
        return {
            _datagram_key(key): (
                FATES.get(int(value["real"])) or names.get(int(value["real"])),
                int(value["seen_t"]),
                int(value["first_bytes"]),
            )
            for keys, values in self.world.maps["datagrams"].batches()
            for key, value in zip(keys, values, strict=True)
        }

    def _forget_allowances(self) -> None:
        program = self.world.data._program
        assert program is not None
        for keys, _ in program._maps["allowances"].batches():
            program._maps["allowances"].delete(keys.copy())

    def _denied(self) -> dict[str, int]:
        return {name: count - self._denied_before[name] for name, count in self.world.data.denied().items()}

    @property
    def _counts(self) -> bool:
        return Scheduling.of(self.configuration.services).counts

    def _loads(self) -> dict[RealKey, tuple[int, ...]]:
        """What the reference counted must also be what its table holds."""
        entries = [*self.maps.connections.values(), *self.maps.embryos]
        held = Counter((e.real, is_active(e.state)) for e in entries if e.state is not State.TEMPLATE)
        for key, real in self.maps.reals.items():
            assert (real.load.active, real.load.inactive) == (held[key, True], held[key, False])
        return {key: astuple(real.load) for key, real in self.maps.reals.items()} if self._counts else {}

    def _tell_world(self, configuration: Configuration) -> None:
        set_mac(configuration.mac)
        timeouts = dict(configuration.timeouts_s)
        self.world.data.limits = configuration.limits
        self.world.data.virtual_mac = configuration.virtual_mac
        self.world.data.settings = SETTINGS.model_copy(
            update={
                "established": timeouts[State.ESTABLISHED],
                "fin": timeouts[State.FIN_WAIT],
                "udp": timeouts[State.UDP],
            }
        )
        self.world.apply(*configuration.services)
        self.clock.set_program(self.world.node)

    @property
    def _schedules(self) -> bpf.Map:
        program = self.world.data._program
        assert program is not None
        return program._maps["schedules"]

    def _count(self) -> Counter[str]:
        held = self.world.maps["counters"].read()
        assert held.dtype.names is not None
        totals = held.view(np.uint64).reshape(-1, len(held.dtype.names)).sum(axis=0).tolist()
        return Counter(dict(zip(held.dtype.names, totals, strict=True)))

    def _templates(self) -> dict[ConnectionKey, int]:
        return {key: entry.last_seen_t for key, entry in self.maps.connections.items() if key.template}

    def _held(self) -> int:
        return len(self.maps.connections) + sum(1 for _ in self.maps.embryos)

    def _opened(self) -> int:
        return sum(real.connections for real in self.maps.reals.values())

    def _row(self, event: Event) -> tuple[Any, ...]:
        """As `read_events` has it."""
        client, virtual, client_port, virtual_port, protocol, _ = event.key
        age_t = max(0, abi.tick(self.clock.now_ns) - event.last_seen_t)
        idle_s = (age_t << abi.TICK_SHIFT) // 10**9
        wide = event.real.version == 6
        ends = (_words(client, wide), _words(virtual, wide), _real(event.real, bool(virtual & IPV6)))
        return *ends, client_port, virtual_port, protocol, int(event.state), idle_s


def _way(destination: Destination) -> tuple[object, ...] | None:
    """What a packet goes by: where there is no MAC, or no tunnel, there is none to compare."""
    if destination.way is None or destination.mac is None or not destination.tunnelled:
        return None
    return destination.way.source, destination.way.mtu, destination.way.interface, destination.way.own_mac


def _held_way(real: Any, way: Any) -> tuple[object, ...] | None:
    needed = RealFlag.TUNNEL | RealFlag.RESOLVED
    if int(real["flags"]) & needed != needed:
        return None
    return abi.address_of(way["source"]), int(way["mtu"]), int(way["interface"]), way["own_mac"].tobytes()


def _datagram(key: DatagramKey) -> bytes:
    """As `read_earlies` has it."""
    (client, virtual), *rest = (abi.words(address_of(number)) for number in key[:2]), *key[2:]
    return struct.pack("!4QIB3x", *client, *virtual, *rest)


def _datagram_key(key: Any) -> DatagramKey:
    client, virtual = (numbered(abi.address_of(key[name])) for name in ("client", "virtual"))
    return DatagramKey(client, virtual, int(key["id"]), int(key["protocol"]))


def _real_key(row: Any) -> RealKey:
    return RealKey(rows.key_of(row), abi.address_of(row["address"]))


def _load(row: Any) -> tuple[int, ...]:
    active, inactive = (int(row[name]) + int(row[f"{name}_fix"]) for name in ("active", "inactive"))
    return active, inactive, int(row["upper"]), int(row["lower"]), int(row["full"])


def _flags(real: Real) -> int:
    flags = RealFlag.USED
    for flag, holds in (
        (RealFlag.LOCAL, real.destination.local),
        (RealFlag.RESOLVED, real.destination.mac is not None),
        (RealFlag.RETIRED, real.retired),
        (RealFlag.FALLBACK, real.fallback),
        (RealFlag.TUNNEL, real.destination.tunnelled),
        (RealFlag.GONE, real.destination.gone and not real.retired),
    ):
        flags |= flag if holds else RealFlag(0)
    return int(flags)


def plain(rows: Rows) -> list[tuple[Any, ...]]:
    """Rows as Python's own values."""
    columns = (rows[name].tolist() for name in rows.dtype.names or ())
    return list(zip(*columns, strict=True))


def _has_ipv6(told: Told) -> bool:
    """Does its row need room for IPv6 addresses?"""
    return bool(told.key.virtual & IPV6) or told.real.version == 6


def _words(number: int, wide: bool = False) -> int | list[int]:
    """An address of the reference as rows have it. wide: mapped, in rows with room for IPv6."""
    if not number & IPV6:
        return [0, 0xFFFF << 32 | number] if wide else number
    return [number >> 64 & 0xFFFF_FFFF_FFFF_FFFF, number & 0xFFFF_FFFF_FFFF_FFFF]


def _number(words: int | list[int]) -> int:
    """And back."""
    return words if isinstance(words, int) else IPV6 | words[0] << 64 | words[1]


def _real(address: Address, wide: bool = False) -> int | list[int]:
    local = {LOCAL: 0, LOCAL6: IPV6}
    return _words(local.get(address, numbered(address)), wide)


def _rows(told: tuple[Told, ...], kind: np.dtype[Any]) -> Rows:
    made = np.zeros(len(told), kind)
    for row, (key, address, state, idle_s) in zip(made, told, strict=True):
        for name, value in zip(ENDS, key, strict=False):
            row[name] = _words(value, kind == CONNECTION6 and name in ("client", "virtual"))
        row["real"], row["state"], row["idle_s"] = _real(address, kind == CONNECTION6), state, idle_s
    return made


def _without(one: object, other: object) -> object:
    """What of a map is not, or not so, in another one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: value for key, value in one.items() if other.get(key) != value}
    return one
