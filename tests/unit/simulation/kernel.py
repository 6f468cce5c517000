"""What outlives a director's process: the packet path (its reference), virtual addresses, the lease, ARP."""

from __future__ import annotations

from ipaddress import IPv4Address

import numpy as np

from lb import abi
from lb.addresses import Address
from lb.connections import CONNECTION, Ours, Rows
from lb.reference import control
from lb.reference.control import Told
from lb.reference.lease import lease_is_fresh
from lb.reference.maps import Configuration, ConnectionKey, Maps
from lb.reference.packet import receive
from lb.reference.stats import Outcome
from lb.service import Destination, Service, ServiceKey
from lb.tcp import State
from tests.packet import frames
from tests.packet.frames import Ends, Shape

VIRTUALS = tuple(IPv4Address(f"10.0.0.{100 + n}") for n in range(3))
"""One for each group of virtuals (`ha.member`), in their order."""
PORT = 80
REALS = tuple(IPv4Address(f"10.0.1.{n}") for n in (1, 2, 3))


def mac_of(place: int) -> bytes:
    """Of the director at that place in the file."""
    return bytes((2, 0, 0, 0, 1, place))


def _real_mac(address: IPv4Address) -> bytes:
    return bytes((2, 0, 0, 0, 2, address.packed[3]))


def _service(virtual: Address) -> Service:
    reals = tuple(Destination(address, 1, _real_mac(address)) for address in REALS)
    return Service(ServiceKey(virtual, PORT, 6), "rr", reals)


SERVICE = _service(VIRTUALS[0])
REAL_OF = {_real_mac(address): address for address in REALS}


def segment(client: int, port: int, virtual: Address, to: bytes, flags: int) -> bytes:
    """A client's frame."""
    return frames.packet(Ends(to, client, int(virtual), port, PORT, frames.TCP), Shape(flags=flags))


class Kernel:
    """One machine's, while it has power. virtuals: of the cluster. addresses: which of them are on the interface."""

    def __init__(self, place: int, turn: int, virtuals: tuple[Address, ...]) -> None:
        self.mac = mac_of(place)
        self.addresses: set[Address] = set()
        self.attached = False
        self._turn = turn
        self._configuration = Configuration(tuple(map(_service, virtuals)), self.mac)
        self.maps = Maps()

    def attach(self) -> None:
        """A process begins: it adopts what an earlier one left."""
        control.restart(self.maps, self._configuration)
        for schedule in self.maps.schedules:
            schedule.cursor = self._turn
        self.attached = True

    def detach(self) -> None:
        """A process ends in order: no trace stays."""
        self.maps, self.attached, self.addresses = Maps(), False, set()

    def receive(self, frame: bytes, now_s: float) -> tuple[Outcome, bytes]:
        """A frame that came in, and how it leaves."""
        if not self.attached:
            return Outcome.FOREIGN, frame
        return receive(self._configuration, self.maps, frame, int(now_s * 1e9))

    def claimed_by(self, mac: bytes, address: Address, now_s: float) -> None:
        """Another host announces a virtual address."""
        ends = Ends(mac, 0, int(address), 0, 0, frames.TCP)
        self.receive(frames.claim(ends, ends, mac, 1), now_s)

    def answers(self, address: Address, now_s: float) -> bool:
        """When asked by ARP who has this virtual address?"""
        asked = frames.question(Ends(self.mac, 1, int(address), 0, 0, frames.TCP))
        outcome, _ = self.receive(asked, now_s)
        return address in self.addresses and outcome in (Outcome.PASSED, Outcome.FOREIGN)

    def renew_lease(self, seconds: float, now_s: float) -> None:
        """As of `lb.datapath`."""
        control.renew_lease(self.maps, seconds, int(now_s * 1e9))

    def may_answer(self, now_s: float) -> bool:
        """Has it a fresh lease?"""
        return lease_is_fresh(self.maps, int(now_s * 1e9))

    def refer_to(self, directors: tuple[bytes, ...], seconds: float, now_s: float) -> None:
        """As of `lb.datapath`."""
        control.refer_to(self.maps, directors, seconds, int(now_s * 1e9))

    def sweep(self, now_s: float) -> None:
        """As of `lb.datapath`."""
        control.sweep(self.maps, self._configuration, int(now_s * 1e9))

    # ------------------------------------------------------------------------------------------------------- rows

    def events(self, now_s: float) -> Rows:
        """What waits in the ring."""
        now_t, waiting = abi.tick(int(now_s * 1e9)), list(self.maps.drain_events())
        rows = [_row(e.key, e.real, e.state, _seconds(now_t - e.last_seen_t)) for e in waiting]
        return np.array(rows, CONNECTION)

    def snapshot(self, now_s: float) -> tuple[Rows, ...]:
        """Every connection that lives."""
        now_t, timeouts_t = abi.tick(int(now_s * 1e9)), self._configuration.timeouts_t
        live = [(k, c) for k, c in self.maps.connections.items() if now_t - c.last_seen_t <= timeouts_t[c.state]]
        rows = [_row(k, c.real.address, c.state, _seconds(now_t - c.last_seen_t)) for k, c in live]
        return (np.array(rows, CONNECTION),)

    def install(self, rows: Rows, ours: Ours, now_s: float) -> None:
        """A peer's."""
        told = [Told(ConnectionKey(r[0], r[1], r[3], r[4], r[5]), IPv4Address(r[2]), r[6], r[7]) for r in rows.tolist()]
        control.install(self.maps, self._configuration, told, int(now_s * 1e9), ours)

    def reals(self, virtual: Address, now_s: float) -> dict[ConnectionKey, Address]:
        """Of every connection to a virtual that lives and is not finished."""
        now_t, timeouts_t = abi.tick(int(now_s * 1e9)), self._configuration.timeouts_t
        return {
            key: held.real.address
            for key, held in self.maps.connections.items()
            if key.virtual == int(virtual)
            and held.state is State.ESTABLISHED
            and now_t - held.last_seen_t <= timeouts_t[held.state]
        }


def _seconds(ticks: int) -> int:
    return max(ticks << abi.TICK_SHIFT, 0) // 10**9


def _row(key: ConnectionKey, real: Address, state: State, idle_s: int) -> tuple[int, ...]:
    return (
        key.client, key.virtual, int(real), key.client_port, key.virtual_port, key.protocol, int(state), idle_s,
    )  # fmt: skip
