"""The sync sessions of one director, one with each peer: who connects, how often, and what a lost one means. Edge.

Every node listens; of two nodes the one later in the file connects, so that there is one session. When a session ends
without a goodbye, both sides knock at once: a refused connection from a living host means that the peer's process has
ended, which need not wait for deadtime.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from ha.channel import Channel, Verdict, greet, probe
from ha.counters import Counters
from ha.link import Link
from ha.port import cannot_listen
from ha.session import NONCE_BYTES, Broken, Greeting, Session
from ha.sync import UNDERSTANDS
from ha.wire import Keys
from lb.model import Cluster

log = structlog.get_logger(__name__)

MAX_GREETING: Final = 16
"""Connections that may be greeting at once."""

RETRY_S: Final = (0.05, 2.0)
"""The first pause between two tries to connect, and the longest; it doubles."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What happens here is told to: opened(link), changed() when what is in sync may have, crashed(peer)."""

    link: Callable[[Channel], Link]
    changed: Callable[[], None]
    crashed: Callable[[str], None]


class Links:
    """See the module's head. life: as in our heartbeats."""

    def __init__(
        self, cluster: Cluster, me: str, keys: Keys, life: int, counters: Counters, callbacks: Callbacks
    ) -> None:
        self.links: dict[str, Link] = {}
        self._cluster = cluster
        self._me = cluster.node(me)
        self._keys = keys
        self._life = life
        self._counters = counters
        self._tell = callbacks
        self._greeting = 0
        self._accepting: set[asyncio.Task[None]] = set()
        self._connectors: dict[str, asyncio.Task[None]] = {}
        self._knock: dict[str, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self._resting = False

    async def start(self) -> None:
        """Listen and begin to connect. Raises NetworkError."""
        host, port = str(self._me.address), self._cluster.ha.port
        try:
            self._server = await asyncio.start_server(self._accepted, host, port)
        except OSError as error:
            raise cannot_listen(host, "TCP", port, error) from None
        self._start_connectors()

    def reconfigure(self, cluster: Cluster, keys: Keys) -> None:
        """Other peers or keys. Sessions with peers that stay go on; new keys are used from the next session on."""
        self._cluster, self._keys = cluster, keys
        names = {node.name for node in cluster.peers_of(self._me.name)}
        for name in set(self.links) - names:
            self.links[name].drop()
        for link in self.links.values():
            link.reconfigured()
        self._start_connectors()

    def knock(self, peer: str) -> None:
        """It was heard: connect now instead of at the next try."""
        if peer in self._knock:
            self._knock[peer].set()

    def drop(self, peer: str) -> None:
        """It is dead, or its process is another one: the session with it is worth nothing."""
        if peer in self.links:
            self.links[peer].drop()

    @property
    def counted(self) -> dict[str, int]:
        """What the sessions that are open add to the counters when they end."""
        links = self.links.values()
        return {
            "sync_overflow": sum(link.sync.overflows for link in links),
            "sync_unknown": sum(link.left_out for link in links),
        }

    def rest(self) -> None:
        """Connect and ask no more; what is open stays."""
        self._resting = True

    async def close(self, orderly: bool) -> None:
        """End all sessions and listen no more. orderly: say goodbye first."""
        for task in self._connectors.values():
            task.cancel()
        if self._server:
            self._server.close()
        links = list(self.links.values())
        if orderly:
            await asyncio.gather(*(link.goodbye() for link in links), return_exceptions=True)
        for link in links:
            link.drop()
        tasks = [*self._connectors.values(), *self._accepting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------- connecting

    def _order(self, name: str) -> int:
        return [node.name for node in self._cluster.nodes].index(name)

    def _earlier(self) -> set[str]:
        mine = self._order(self._me.name)
        return {node.name for node in self._cluster.nodes[:mine]}

    def _later(self) -> dict[str, str]:
        """Their names by their addresses."""
        return {str(node.address): node.name for node in self._cluster.nodes[self._order(self._me.name) + 1 :]}

    def _start_connectors(self) -> None:
        wanted = self._earlier()
        for name in set(self._connectors) - wanted:
            self._connectors.pop(name).cancel()
        for name in wanted - set(self._connectors):
            self._knock[name] = asyncio.Event()
            self._connectors[name] = asyncio.create_task(self._connect_for_ever(name), name=f"sync to {name}")

    async def _connect_for_ever(self, name: str) -> None:
        pause_s = RETRY_S[0]
        while not self._resting:
            knock = self._knock[name]
            knock.clear()
            try:
                if channel := await self._connect(name):
                    pause_s = RETRY_S[0]
                    await self._serve(channel)
            except Exception:  # sync may fail, but must be tried again
                log.exception("sync session failed", peer=name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await knock.wait()
            pause_s = min(pause_s * 2, RETRY_S[1])

    async def _connect(self, name: str) -> Channel | None:
        address, port = str(self._cluster.node(name).address), self._cluster.ha.port
        try:
            async with asyncio.timeout(RETRY_S[1]):
                streams = await asyncio.open_connection(address, port, local_addr=(str(self._me.address), 0))
        except (OSError, TimeoutError):
            return None
        return await self._greet(*streams, peers=(name,), initiator=True)

    # ----------------------------------------------------------------------------------------------- accepting

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = (writer.get_extra_info("peername") or ("",))[0]
        if address not in {str(node.address) for node in self._cluster.peers_of(self._me.name)}:
            self._count("stranger", address)
            writer.transport.abort()
        elif self._greeting >= MAX_GREETING:
            self._count("crowded", address)
            writer.transport.abort()
        else:
            task = asyncio.current_task()
            assert task is not None
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)
            self._greeting += 1
            try:
                peer = self._later().get(address)
                channel = await self._greet(reader, writer, peers=(peer,) if peer else (), initiator=False)
            finally:
                self._greeting -= 1
            if channel:
                await self._serve(channel)

    async def _greet(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        peers: tuple[str, ...],
        initiator: bool,
    ) -> Channel | None:
        me = Greeting(
            self._cluster.cluster.name, self._me.name, self._life, secrets.token_bytes(NONCE_BYTES), UNDERSTANDS
        )
        address = (writer.get_extra_info("peername") or ("",))[0]
        try:
            return await greet(reader, writer, Session(me, peers, self._keys, initiator=initiator))
        except Broken as broken:
            self._count(broken.kind, address)
        except TimeoutError:
            if not initiator:  # a peer that is frozen is nobody's attack
                self._count("timeout", address)
        except OSError:
            pass
        return None

    def _count(self, kind: str, address: str) -> None:
        name = f"sync_{kind}"
        self._counters.add(name)
        if self._counters.worth_logging(name, asyncio.get_running_loop().time()):
            log.warning("sync connection refused", kind=kind, address=address, count=self._counters.values[name])

    # ------------------------------------------------------------------------------------------------- serving

    async def _serve(self, channel: Channel) -> None:
        """Until the session ends; then find out what that means."""
        name = channel.peer.node
        if old := self.links.get(name):
            old.drop()
        link = self.links[name] = self._tell.link(channel)
        self._counters.add("sync_opened")
        log.info("sync session opened", peer=name)
        self._tell.changed()
        orderly = False
        try:
            orderly = await link.run()
        except Broken as broken:
            self._count(broken.kind, str(self._cluster.node(name).address))
        finally:
            self._counters.add("sync_overflow", link.sync.overflows)
            self._counters.add("sync_unknown", link.left_out)
            if self.links.get(name) is link:
                del self.links[name]
                self._tell.changed()
        log.info("sync session ended", peer=name, orderly=orderly)
        if not (orderly or self._resting or name in self.links):
            await self._judge(name)

    async def _judge(self, name: str) -> None:
        """A session ended without a goodbye: does the peer's process still listen?"""
        node = self._cluster.node(name)
        verdict = await probe(str(node.address), self._cluster.ha.port, str(self._me.address))
        log.info("asked whether the peer's process lives", peer=name, verdict=verdict.value)
        if verdict is Verdict.GONE:
            self._tell.crashed(name)
