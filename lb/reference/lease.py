"""The lease: may this host answer, and who is asked about connections that it does not know (bpf/lease.h). Pure."""

from __future__ import annotations

from lb.reference.maps import Maps
from lb.reference.stats import Outcome


def lease_is_fresh(maps: Maps, now_ns: int) -> bool:
    """May the kernel speak for the virtual addresses?"""
    return now_ns < maps.lease.until_ns


def end_lease(maps: Maps) -> None:
    """Not any more."""
    maps.lease.until_ns = 0


def refer(maps: Maps, frame: bytes, now_ns: int) -> bytes | None:
    """The frame as the first of `directors` gets it; None: nobody is to be asked, or one of them sent it."""
    lease = maps.lease
    if now_ns >= lease.refer_until_ns or frame[6:12] in lease.directors:
        return None
    return lease.directors[0] + frame[:6] + frame[12:]


def disown(maps: Maps, now_ns: int) -> Outcome:
    """The kernel answers with a reset, unless another director may own the address by now."""
    return Outcome.PASSED if lease_is_fresh(maps, now_ns) else Outcome.NO_LEASE
