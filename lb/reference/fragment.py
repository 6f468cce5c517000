"""Fragments: the later ones of a datagram follow its first (bpf/fragment.h). Pure."""

from __future__ import annotations

from lb import abi
from lb.reference.frame import First, LaterFragment
from lb.reference.maps import Datagram, Early, Fate, Maps, RealKey
from lb.reference.stats import Outcome

TIMEOUT_T = abi.ticks(abi.FRAGMENT_TIMEOUT_S)


def is_current(datagram: Datagram, now_t: int) -> bool:
    """An identification comes again, IPv4's after 65,536 datagrams to the same host."""
    return now_t - datagram.seen_t <= TIMEOUT_T


def is_within_pace(maps: Maps, now_t: int) -> bool:
    """May one more be set aside in this tick?"""
    tick, count = maps.pace
    count = count if tick == now_t else 0
    allowed = count < abi.EARLY_A_TICK
    maps.pace = now_t, count + allowed
    return allowed


def follow_first(maps: Maps, frame: bytes, later: LaterFragment, now_t: int) -> RealKey | tuple[Outcome, bytes]:
    """Who gets a later fragment; else how it leaves. While that is unknown it is set aside.

    One that begins within the first could write over its ports, and goes nowhere (RFC 1858, RFC 5722).
    """
    key = later.datagram
    found = maps.datagrams.get(key)
    if found is None or not is_current(found, now_t) or found.fate is Fate.WAITS:
        if not is_within_pace(maps, now_t):
            return Outcome.FRAGMENT, frame
        if found is None or not is_current(found, now_t):
            maps.datagrams[key] = Datagram(Fate.WAITS, now_t)
        if len(frame) > abi.EARLY_BYTES:
            return Outcome.FRAGMENT, frame
        maps.earlies.append(Early(key, frame))
        return Outcome.SET_ASIDE, frame + bytes(-len(frame) % 8)
    if isinstance(found.fate, RealKey):
        return (Outcome.FRAGMENT, frame) if later.begins < found.first_bytes else found.fate
    return (Outcome.PASSED if found.fate is Fate.PASSED else Outcome.FRAGMENT), frame


def lead_later(maps: Maps, first: First, outcome: Outcome, real: RealKey | None, now_t: int) -> None:
    """Of a first fragment that leaves like this: the later ones follow, also those that came before."""
    key = first.datagram
    found = maps.datagrams.get(key)
    if found is not None and found.fate is Fate.WAITS and is_current(found, now_t):
        maps.earlies.append(Early(key, b""))
    fate: RealKey | Fate = Fate.PASSED if outcome in (Outcome.PASSED, Outcome.FOREIGN) else Fate.DROPPED
    if outcome in (Outcome.TX, Outcome.REDIRECTED) and real is not None:
        fate = real
    maps.datagrams[key] = Datagram(fate, now_t, first.size)
