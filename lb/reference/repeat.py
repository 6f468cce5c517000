"""SYNs that come again, because their client heard nothing (bpf/repeat.h). Pure."""

from __future__ import annotations

from lb.options import Options
from lb.reference.conn import may_open
from lb.reference.embryo import Embryo
from lb.reference.frame import Packet
from lb.reference.maps import Configuration, Connection, Maps
from lb.tcp import State


def note_repeat(maps: Maps, configuration: Configuration, known: Connection | Embryo, packet: Packet) -> None:
    """A packet of a known connection, before it is noted there."""
    if not Options.of(configuration.services).repeats:
        return
    if known.state is State.SYN_RECV and may_open(packet):
        maps.reals[known.real].repeats += 1
