"""The last step of a frame: whose MACs it bears, and by which interface it leaves (bpf/send.h). Pure."""

from __future__ import annotations

from lb.reference.answer import ICMP_UNREACHABLE, TOO_BIG, answer
from lb.reference.answer6 import LEAST_MTU, TOO_BIG6, answer6
from lb.reference.frame import LaterFragment, Packet
from lb.reference.maps import IPV6, Configuration, Maps
from lb.reference.stats import Outcome
from lb.service import Destination


def send(configuration: Configuration, real: Destination, ours: bytes) -> tuple[Outcome, bytes]:
    """How it leaves, and its MACs. ours: to which the frame was sent. Of a real whose MAC is known."""
    assert real.mac is not None
    way = real.way
    if configuration.others and way and way.interface not in (0, configuration.came_by):
        return Outcome.REDIRECTED, real.mac + way.own_mac
    return Outcome.TX, real.mac + ours


def refuse_too_big(
    maps: Maps, frame: bytes, packet: Packet | LaterFragment, real: Destination, more: int, now_t: int
) -> tuple[Outcome, bytes] | None:
    """What becomes of a packet that is too big for its way, with so many bytes more; None: it is not.

    No IPv6 host sends less than LEAST_MTU bytes at a time because it is told so.
    """
    if real.way is None or not real.way.mtu or packet.length + more <= real.way.mtu:
        return None
    fits = real.way.mtu - more
    if isinstance(packet, LaterFragment) or not packet.key.virtual & IPV6:
        answered = answer(maps, frame, packet, ICMP_UNREACHABLE, TOO_BIG, fits, now_t)
    elif packet.length > LEAST_MTU:
        answered = answer6(maps, frame, packet, TOO_BIG6, 0, max(fits, LEAST_MTU), now_t)
    else:
        answered = None
    return (Outcome.DROP_TOO_BIG, frame) if answered is None else (Outcome.TOO_BIG, answered)
