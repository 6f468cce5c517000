"""What becomes of a connection whose real left its service (bpf/leaving.h). Pure."""

from __future__ import annotations

from enum import Enum

from lb.reference.conn import may_open
from lb.reference.embryo import Embryo
from lb.reference.frame import Packet
from lb.reference.maps import Configuration, Connection, Maps
from lb.reference.service import TCP


class Fate(Enum):
    """Of a packet that belongs to a known connection."""

    GOES_ON = 1
    HELD_UP = 2
    ENDED = 3


def fate_of(maps: Maps, configuration: Configuration, place: int, known: Connection | Embryo, packet: Packet) -> Fate:
    """IPVS's expire_nodest_conn, both ways."""
    real = maps.reals[known.real]
    if not configuration.services[place].expire_nodest:
        return Fate.HELD_UP if real.destination.gone and not real.retired else Fate.GOES_ON
    if real.destination.gone or real.retired:
        return Fate.ENDED
    begins = packet.key.protocol == TCP and may_open(packet)
    return Fate.ENDED if begins and not real.destination.weight else Fate.GOES_ON
