"""The links that a configuration has for heartbeats, and what each is called. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from lb.model import Cluster

EVERYBODY: Final = "255.255.255.255"


@dataclass(frozen=True, slots=True)
class Way:
    """One link. name: the same on all nodes but for unicast, where it has our own address.

    bind: the address that its socket hears: ours, the group, or everybody. interface: for multicast and broadcast.
    peers: by name where each is sent to; for multicast and broadcast all the same.
    """

    kind: Literal["unicast", "multicast", "broadcast"]
    name: str
    bind: str
    interface: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)

    def targets(self, datagrams: list[tuple[str, bytes]]) -> dict[tuple[str, bytes], None]:
        """(address, datagram), each once: what is sent for these (peer, datagram)."""
        return {(self.peers[peer], data): None for peer, data in datagrams if peer in self.peers}


def ways(cluster: Cluster, me: str) -> tuple[Way, ...]:
    """All links of this node, that between the nodes' own addresses first."""
    mine, others = cluster.node(me), cluster.peers_of(me)
    found = []
    for at, address in enumerate((mine.address, *mine.links)):
        peers = {node.name: str((node.address, *node.links)[at]) for node in others}
        found.append(Way("unicast", f"unicast {address}", str(address), peers=peers))
    for interface in cluster.ha.broadcast:
        name = f"broadcast {interface}"
        found.append(Way("broadcast", name, EVERYBODY, interface, {n.name: EVERYBODY for n in others}))
    for interface in cluster.ha.multicast:
        group = str(cluster.ha.group)
        name = f"multicast {interface}"
        found.append(Way("multicast", name, group, interface, {n.name: group for n in others}))
    return tuple(found)
