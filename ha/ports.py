"""All links of a node together: what is sent goes over each of them, and one that fails is opened again. Edge."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ha.counters import Counters
from ha.deputy import Deputy
from ha.heartbeat import Spare
from ha.port import Port
from ha.ways import Way, ways
from lb.errors import NetworkError
from lb.model import Cluster

log = structlog.get_logger(__name__)


class Ports:
    """Open from its making, in a running loop, until `close`. received: called with each datagram and its link's name.

    The link between the nodes' own addresses must be there. Any other may be missing, and is tried for by `mend`.
    """

    def __init__(self, cluster: Cluster, me: str, received: Callable[[bytes, str], None], counters: Counters) -> None:
        """Raises NetworkError."""
        self._me, self._received, self._counters = me, received, counters
        self._port = cluster.ha.port
        self._ways = ways(cluster, me)
        self._open: dict[str, Port] = {}
        self._refused: set[str] = set()
        self._deputy: Deputy | None = None
        self._open[self._ways[0].name] = self._make(self._ways[0])
        self.mend()

    def _make(self, way: Way) -> Port:
        return Port(way, self._port, lambda data: self._received(data, way.name), self._counters)

    def configure(self, cluster: Cluster) -> None:
        """These links from now on; those that stay are not touched."""
        before = {way.name: way for way in self._ways}
        self._ways = ways(cluster, self._me)
        wanted = {way.name: way for way in self._ways}
        for name in [name for name in self._open if wanted.get(name) != before[name]]:
            self._open.pop(name).close()
        self.mend()

    def mend(self) -> None:
        """Open what is not, and see to it that there is a deputy."""
        self._appoint()
        for way in self._ways:
            port = self._open.get(way.name)
            if port and port.gone:
                port.close()
                del self._open[way.name]
            if way.name not in self._open:
                self._try(way)

    def _try(self, way: Way) -> None:
        try:
            self._open[way.name] = self._make(way)
        except NetworkError as error:
            if way.name not in self._refused:
                log.warning("a heartbeat link cannot be used; it is tried again", link=way.name, reason=str(error))
            self._refused.add(way.name)
        else:
            if way.name in self._refused:
                log.info("a heartbeat link can be used", link=way.name)
            self._refused.discard(way.name)

    def send(self, datagrams: list[tuple[str, bytes]]) -> None:
        """(peer, datagram), over every link."""
        for way in self._ways:
            if port := self._open.get(way.name):
                for address, data in way.targets(datagrams):
                    port.send(address, data)

    def read(self) -> None:
        """What has come over any link."""
        for port in list(self._open.values()):
            port.read()

    def expect(self, peer: str, link: str, passes: Callable[[str, str], list[int]]) -> None:
        """Over that link heartbeats of this peer come. passes: of (peer, link), those of the next ones."""
        words = passes(peer, link)
        port = self._open.get(link)
        if port and port.steers:
            port.expect(peer, words)

    def entrust(self, spares: list[Spare]) -> bool:
        """What to send over every link in time, instead of what was entrusted before. Is anybody there to do it?"""
        if self._deputy is None:
            return False
        open_ways = [(way, self._open[way.name]) for way in self._ways if way.name in self._open]
        handed = [
            (
                spare.due_s,
                spare.worthless_s,
                spare.late,
                [
                    (at, port.at(address), data)
                    for at, (way, port) in enumerate(open_ways)
                    for address, data in way.targets(spare.datagrams)
                ],
            )
            for spare in spares
        ]
        try:
            sent = self._deputy.entrust(handed, [port.socket for _, port in open_ways])
        except OSError as error:
            log.warning("late heartbeats have no deputy; another one is started", reason=str(error))
            self._deputy.close()
            self._deputy = None
            return False
        self._counters.add("heartbeat_deputised", sent)
        return True

    def _appoint(self) -> None:
        if self._deputy is None:
            try:
                self._deputy = Deputy()
            except OSError as error:
                log.warning("late heartbeats have no deputy; it is tried again", reason=str(error))

    def close(self) -> None:
        """Hear and send nothing more."""
        if self._deputy:
            self._deputy.close()
        for port in self._open.values():
            port.close()
