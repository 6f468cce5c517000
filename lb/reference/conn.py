"""The connection table: a packet's entry, its state, its age (bpf/conn.h). Pure."""

from __future__ import annotations

from lb import abi, tcp
from lb.reference.embryo import Embryo
from lb.reference.frame import Packet
from lb.reference.load import count, count_moved
from lb.reference.maps import Configuration, Connection, ConnectionKey, Event, Maps, RealKey
from lb.reference.service import TCP
from lb.tcp import State

SYNC_REFRESH_T = abi.ticks(abi.SYNC_REFRESH_S)


def may_open(packet: Packet) -> bool:
    """Can this packet open a connection? Any datagram, and a SYN that does not reset at once."""
    return packet.key.protocol != TCP or tcp.opens(packet.tcp_flags)


def is_finished(known: Connection | Embryo) -> bool:
    """May its client begin another one on the same port?"""
    return known.state in tcp.REUSABLE


def ran_out(configuration: Configuration, known: Connection | Embryo, now_t: int) -> bool:
    """An entry from the future is young: user space's clock, and that of other CPUs, may be a little ahead."""
    return now_t - known.last_seen_t > configuration.timeouts_t[known.state]


def find_known(maps: Maps, configuration: Configuration, packet: Packet, now_t: int) -> Connection | Embryo | None:
    """The packet's entry, unless it ran out, or a client begins anew on the port of a finished one; where there is none
    its half-open connection, unless that ran out."""
    found = maps.connections.get(packet.key) or maps.embryos.find(packet.key)
    if found is None or ran_out(configuration, found, now_t):
        return None
    if packet.key.protocol == TCP and may_open(packet) and is_finished(found):
        return None
    return found


def touch(maps: Maps, known: Connection, packet: Packet, now_t: int) -> bool:
    """Note that a packet came. Should user space hear of it: has the state changed, or did it last hear long ago?

    Only a packet in another tick than the one before asks whether that was long ago.
    """
    tell = False
    if packet.key.protocol == TCP:
        state = tcp.next_state(known.state, packet.tcp_flags)
        if state != known.state:
            count_moved(maps, known.real, known.state, state)
            known.state = state
            tell = True
    if known.last_seen_t != now_t:
        known.last_seen_t = now_t
        tell = tell or now_t - known.synced_t >= SYNC_REFRESH_T
    if tell:
        known.synced_t = now_t
    return tell


def first_state(packet: Packet) -> State:
    """Of a connection that this packet opens."""
    return tcp.next_state(State.NONE, packet.tcp_flags) if packet.key.protocol == TCP else State.UDP


def end_connection(maps: Maps, key: ConnectionKey) -> None:
    """An entry makes room: it ran out, or its client begins anew."""
    before = maps.connections.pop(key)
    count(maps, before.real, before.state, -1)


def insert_embryo(maps: Maps, key: ConnectionKey, real: RealKey, state: State, now_ns: int) -> None:
    """A new half-open connection, or template. Who has to go for it is counted no more."""
    before = maps.embryos.put(Embryo(key, real, state, now_ns >> abi.MOMENT_SHIFT))
    if before is not None:
        count(maps, before.real, before.state, -1)
    count(maps, real, state, 1)


def end_embryo(maps: Maps, embryo: Embryo) -> None:
    """Its real is gone."""
    embryo.gone = True
    count(maps, embryo.real, embryo.state, -1)


def renew(embryo: Embryo, now_ns: int) -> None:
    """Another packet came that does not make it whole: the SYN again, or a reset."""
    embryo.seen_m = now_ns >> abi.MOMENT_SHIFT


def grow_up(maps: Maps, embryo: Embryo, now_t: int) -> Connection:
    """It becomes an entry of the connection table, as it is; the packet that makes it whole comes next."""
    embryo.gone = True
    made = maps.connections[embryo.key] = Connection(embryo.real, embryo.state, embryo.last_seen_t, now_t)
    return made


def tell_event(maps: Maps, key: ConnectionKey, real: RealKey, state: State, now_t: int) -> None:
    """Tell user space, which tells the other directors."""
    maps.events.append(Event(key, real.address, state, now_t))
