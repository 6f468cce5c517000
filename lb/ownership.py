"""Owning the virtual addresses: adding and announcing them, the lease, who claims them beside us, whom to ask. Edge.

What `ha.failover` asks for when roles move (`ha.failover.Hooks`), on one interface.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from ha.programs import Programs
from ha.rivals import Holder, Rivals
from ha.state import Role
from ha.takeover import Announcer
from lb.addresses import Address, Interface
from lb.datapath import DataPath
from lb.model import Cluster
from lb.netif import Place, Ways

log = structlog.get_logger(__name__)

REFER_S: Final = 30.0
"""How long the director that was active before is asked about connections unknown here. By then a process that froze or
died has come back and told of them; else their clients get a reset."""
LEFT_S: Final = 1.0
"""How long, if it has left. It does not answer, but what it told last may still be on its way, and clients that get no
answer ask again."""

REPEAT_S: Final = 60.0
"""How often addresses at a virtual MAC are announced besides: switches forget within minutes where one is from which
nothing comes, and packets leave from the interface's."""


class Ownership:
    """Open from its making, in a running loop, until `close`. mac: the interface's. place: of the addresses.

    predecessors: names, by group of addresses (`ha.member`), the director that was active before us, empty if none was,
    and says whether it has left since.
    """

    def __init__(
        self,
        cluster: Cluster,
        me: str,
        interface: str,
        mac: bytes,
        place: Place,
        data: DataPath,
        ways: Ways,
        predecessors: Callable[[], Mapping[str, tuple[str, bool]]],
        programs: Programs,
    ) -> None:
        """Raises NetworkError."""
        self._cluster, self._me = cluster, me
        self._place = place
        self._data, self._ways = data, ways
        self._predecessors, self._programs = predecessors, programs
        self._owned: set[str] = set()
        self._looking: asyncio.Task[None] | None = None
        self._announcer = Announcer(interface, place.mac, REPEAT_S if place.virtual else None)
        self._announcer.vlans = cluster.ha.vlans
        try:
            self._rivals = Rivals(interface, mac, self.renew_lease, self._on_rival)
        except BaseException:
            self._announcer.close()
            raise

    def close(self) -> None:
        """Say and hear nothing more. What is on the interface stays there."""
        if self._looking:
            self._looking.cancel()
        self._rivals.close()
        self._announcer.close()

    # ----------------------------------------------------------------------------------------- hooks of failover

    async def take(self, group: str, silent: str) -> None:
        """Own its addresses: answer for them and say so, after fencing who is silent. Raises NetworkError."""
        if silent:
            await self._programs.fence(silent)
        self._owned.add(group)
        self._refer(group)
        self._data.renew_lease(self._cluster.ha.deadtime)
        self._place.add(self._cluster.groups[group])
        self._defend()
        self.announce(group)
        if not group:
            self._programs.want(True)

    async def release(self, group: str) -> None:
        """Answer for none of its addresses any more."""
        if not group:
            self._programs.want(False)
        self._owned.discard(group)
        self._defend()
        if self._owned:
            self._announcer.announce(self._addresses)
        else:
            self._announcer.cancel()
            self._data.renew_lease(0.0)
        self._place.remove(self._cluster.groups[group], all_gone=not self._owned)

    async def holder(self, group: str) -> str:
        """Who else answers for one of its addresses; empty: nobody."""
        return _held_by(await self._rivals.holder(self._cluster.groups[group]))

    def announce(self, group: str) -> None:
        """Tell the segment where its addresses are, also after another director had them meanwhile."""
        self._refer(group)
        self._announcer.announce(self._addresses)

    def hush(self, group: str) -> None:  # noqa: ARG002
        """As of `Hooks`; of what is ours all is announced at once, and so left out at once."""
        self._announcer.hush()

    def left(self, peer: str) -> None:
        """As of `Hooks`: who was asked about connections has no answer any more."""
        for group in sorted(self._owned):
            if self._predecessors()[group][0] == peer:
                self._refer(group)

    def now(self, group: str, role: Role) -> None:
        """Our role has changed. Programs follow that of the addresses without a preferred node of their own."""
        if not group:
            self._programs.tell(role)

    def _defend(self) -> None:
        self._rivals.defend(self._addresses, _of(self._cluster, self._cluster.groups))

    @property
    def _addresses(self) -> tuple[Address, ...]:
        """Those that are ours now."""
        return _of(self._cluster, self._owned)

    # ------------------------------------------------------------------------------------------------- the lease

    async def keep_lease(self) -> None:
        """Renew the permission to answer for the addresses; a director that hangs loses it (DESIGN 6)."""
        while True:
            self.renew_lease()
            await asyncio.sleep(self._cluster.ha.keepalive)

    def renew_lease(self) -> None:
        """Once, if any addresses are ours."""
        if self._owned:
            self._data.renew_lease(self._cluster.ha.deadtime)

    # --------------------------------------------------------------------------------------------------- changes

    def configure(self, cluster: Cluster) -> None:
        """From now on these are the virtual addresses; in the same groups as before."""
        before, self._cluster = self._addresses, cluster
        self._programs.configure(cluster)
        self._announcer.vlans = cluster.ha.vlans
        if not self._owned:
            return
        self._place.remove(set(before) - set(self._addresses))
        added = set(self._addresses) - set(before)
        self._place.add(added)
        self._defend()
        if added:
            self._announcer.announce(self._addresses)

    def lost(self, address: Interface) -> None:
        """The interface has lost an address; it is put back if it ought to be there."""
        if address.ip in self._addresses:
            log.warning("somebody removed a virtual address: putting it back", address=str(address.ip))
            self._place.add((address.ip,))
            self._announcer.announce(self._addresses)

    # ---------------------------------------------------------------------------------------------------- others

    @property
    def warnings(self) -> list[str]:
        """Who else has an address that is ours."""
        held = _held_by(self._rivals.rival)
        return [f"{held} too"] * bool(held) + [self._programs.trouble] * bool(self._programs.trouble)

    def _on_rival(self, address: Address, mac: bytes) -> None:
        log.warning("another host claims a virtual address: announcing it", address=str(address), mac=mac.hex(":"))
        self._announcer.announce(self._addresses)

    def _refer(self, group: str) -> None:
        """Ask the director before us about connections that it could not tell us of, unless its host is dead."""
        before, left = self._predecessors()[group]
        peers = sorted(self._cluster.peers_of(self._me), key=lambda node: node.name != before)
        macs = [self._ways.mac(node.address) for node in peers]
        if before and macs and macs[0]:
            directors = [mac for mac in macs if mac]
            self._data.refer_to(directors, LEFT_S if left else REFER_S)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._refer_no_more_unless_alive(before, directors))

    async def _refer_no_more_unless_alive(self, before: str, directors: list[bytes]) -> None:
        if await self._rivals.holder([self._cluster.node(before).address]) is None:
            log.info("the host of the director before us does not answer", node=before)
            self._data.refer_to(directors, 0.0)


def _of(cluster: Cluster, groups: Iterable[str]) -> tuple[Address, ...]:
    return tuple(address for group, addresses in cluster.groups.items() if group in groups for address in addresses)


def _held_by(holder: Holder | None) -> str:
    return f"{holder[0]} is held by {holder[1].hex(':')}" if holder else ""
