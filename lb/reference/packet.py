"""A packet's whole way (bpf/lb.c): parse, match, follow the connection or schedule a new one, forward, count. Pure."""

from __future__ import annotations

from lb import abi
from lb.reference.arp import ETHERTYPE_ARP, answer_arp, parse_arp
from lb.reference.conn import (
    end_connection,
    end_embryo,
    find_known,
    first_state,
    grow_up,
    insert_embryo,
    is_finished,
    may_open,
    renew,
    tell_event,
    touch,
)
from lb.reference.embryo import Embryo, grows_up
from lb.reference.forward import forward
from lb.reference.fragment import follow_first, lead_later
from lb.reference.frame import First, LaterFragment, NotFirst, Packet
from lb.reference.icmp import relate
from lb.reference.lease import disown, refer
from lb.reference.leaving import Fate, fate_of
from lb.reference.limit import is_denied, is_too_fast
from lb.reference.maps import Configuration, Connection, Maps, RealKey
from lb.reference.nd import answer_nd, is_nd, parse_nd
from lb.reference.parse import ETHERTYPE_IPV4, parse_ipv4
from lb.reference.parse6 import ETHERTYPE_IPV6, parse_ipv6
from lb.reference.persist import bind, choose_real
from lb.reference.refuse import refuse
from lb.reference.repeat import note_repeat
from lb.reference.service import match_service
from lb.reference.stats import Outcome, Undecided, Verdict
from lb.reference.vlan import skip_tags

_PARSERS = {ETHERTYPE_IPV4: parse_ipv4, ETHERTYPE_IPV6: parse_ipv6}

Left = tuple[Outcome, bytes]
"""How a frame leaves."""


def receive(configuration: Configuration, maps: Maps, frame: bytes, now_ns: int) -> Left:
    """How a frame leaves, and with which bytes. Changes the maps.

    frame: at least 14 bytes, as every driver hands over. now_ns: the program's clock.
    """
    outcome, out = _decide(configuration, maps, frame, now_ns)
    if outcome.verdict is Verdict.TX and out[6:12] == configuration.virtual_mac:
        out = out[:6] + configuration.mac + out[12:]  # it is only ever announced (bpf/parse.h, write_source)
    if outcome is not Outcome.FOREIGN:
        maps.counters[outcome.value] += 1
    return outcome, out


def _decide(configuration: Configuration, maps: Maps, frame: bytes, now_ns: int) -> Left:
    ethertype, data = skip_tags(frame)
    if ethertype == ETHERTYPE_ARP and parse_arp(configuration, maps, data):
        return answer_arp(maps, now_ns), frame
    if ethertype == ETHERTYPE_IPV6 and is_nd(data):
        asks = parse_nd(configuration, maps, frame[6:12], data)
        return answer_nd(maps, now_ns) if asks else Outcome.FOREIGN, frame
    if ethertype not in _PARSERS:
        return Outcome.FOREIGN, frame
    parsed = _PARSERS[ethertype](configuration, frame[:6], data)
    if not isinstance(parsed, First):
        return _carry(configuration, maps, frame, parsed, now_ns)[0]
    left, real = _carry(configuration, maps, frame, parsed.what, now_ns)
    if left[0] is not Outcome.MALFORMED:
        lead_later(maps, parsed, left[0], real, abi.tick(now_ns))
    return left


def _carry(
    configuration: Configuration, maps: Maps, frame: bytes, packet: NotFirst, now_ns: int
) -> tuple[Left, RealKey | None]:
    """And whose real's it was."""
    if packet is Undecided.FOR_KERNEL:
        return (disown(maps, now_ns), frame), None
    if isinstance(packet, Outcome):
        return (packet, frame), None
    if isinstance(packet, LaterFragment):
        found = follow_first(maps, frame, packet, abi.tick(now_ns))
    else:
        found = _find_real(configuration, maps, frame, packet, now_ns)
    if not isinstance(found, RealKey):
        return found, None
    return forward(configuration, maps, frame, packet, maps.reals[found], abi.tick(now_ns)), found


def _find_real(configuration: Configuration, maps: Maps, frame: bytes, packet: Packet, now_ns: int) -> RealKey | Left:
    key, now_t = packet.key, abi.tick(now_ns)
    service = match_service(configuration, key.virtual, key.virtual_port, key.protocol)
    if service is None:
        return Outcome.PASSED, frame
    if is_denied(maps, configuration, packet):
        return Outcome.DENIED, frame
    if packet.is_error:
        quoted = relate(maps, configuration, packet, now_t)
        return _refer_or_disown(maps, frame, now_ns) if quoted is None else quoted
    known = find_known(maps, configuration, packet, now_t)
    if not may_open(packet) and (known is None or is_finished(known)):
        referred = refer(maps, frame, now_ns)
        if referred is not None:
            return Outcome.REFERRED, referred
    fate = fate_of(maps, configuration, service, known, packet) if known else Fate.GOES_ON
    if fate is Fate.HELD_UP:
        return Outcome.REAL_GONE, frame
    if known and fate is Fate.GOES_ON:
        return _follow(configuration, maps, known, service, packet, now_ns)
    if may_open(packet) and is_too_fast(maps, configuration, packet, now_ns):
        return Outcome.TOO_FAST, frame
    if isinstance(known, Embryo):
        end_embryo(maps, known)
    elif key in maps.connections and (fate is Fate.ENDED or may_open(packet)):
        end_connection(maps, key)
    if not may_open(packet):
        return disown(maps, now_ns), frame
    chosen = choose_real(maps, configuration, service, packet, now_ns)
    if chosen is None:
        return refuse(maps, frame, packet, now_ns)
    maps.reals[chosen].connections += 1
    if not configuration.services[service].one_packet:
        insert_embryo(maps, key, chosen, first_state(packet), now_ns)
    return chosen


def _follow(
    configuration: Configuration, maps: Maps, known: Connection | Embryo, service: int, packet: Packet, now_ns: int
) -> RealKey:
    """The real of a connection that goes on; notes that its packet came."""
    now_t, grown = abi.tick(now_ns), False
    note_repeat(maps, configuration, known, packet)
    if isinstance(known, Embryo):
        if not grows_up(known, packet.tcp_flags):
            renew(known, now_ns)
            return known.real
        known, grown = grow_up(maps, known, now_t), True
        bind(maps, configuration.services[service], known, packet.key.client, now_t)
    if touch(maps, known, packet, now_t) or grown:
        tell_event(maps, packet.key, known.real, known.state, now_t)
    return known.real


def _refer_or_disown(maps: Maps, frame: bytes, now_ns: int) -> Left:
    """An error about a connection that nobody here knows: ask who may; else it is our own."""
    referred = refer(maps, frame, now_ns)
    return (disown(maps, now_ns), frame) if referred is None else (Outcome.REFERRED, referred)
