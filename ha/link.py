"""One peer's sync over one channel: reads, installs and acknowledges, makes snapshots in a thread, and writes. Edge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from ha import digest
from ha.channel import Channel
from ha.sync import Sync
from lb.connections import Rows

log = structlog.get_logger(__name__)

FEW: Final = 128
"""Rows that are put into the table in less time than a thread takes to begin."""


class Link:
    """Runs from `run` until the stream ends. changed: called when what we hold or the peer holds may have changed.
    ordered: called with what operators ordered there.

    snapshot(ours): all connections that this director leads in, or those in which the peer does. It is called in a
    thread, install too unless the rows are few; at most `ha.rows.MAX_ROWS` at a time.
    left_out: rows that had no place in the table, since this node knows no such real.
    """

    def __init__(
        self,
        channel: Channel,
        snapshot: Callable[[bool], tuple[Rows, ...]],
        install: Callable[[Rows], int],
        clock: Callable[[], float],
        changed: Callable[[], None],
        ordered: Callable[[bytes], None],
    ) -> None:
        self.peer = channel.peer
        self.sync = Sync(channel.peer.understands)
        self._channel = channel
        self._snapshot, self._install = snapshot, install
        self._clock, self._changed, self._ordered = clock, changed, ordered
        self._wake = asyncio.Event()
        self._making: asyncio.Task[None] | None = None
        self._dropped = False
        self.left_out = 0
        self._incomplete = False
        self._opened_s = clock()

    async def run(self) -> bool:
        """Returns when the stream has ended: was that in order, by either side's wish? Raises Broken."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._channel.abort()
            for task in (*tasks, self._making):
                if task:
                    task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, OSError):
                raise end
        return self.sync.farewell or self._dropped

    def wake(self) -> None:
        """Something was given to `sync`."""
        self._wake.set()

    def drop(self) -> None:
        """End it now, by our wish."""
        self._dropped = True
        self._channel.abort()

    async def goodbye(self) -> None:
        """Tell the peer that this end is in order, and end it."""
        self._dropped = True
        with contextlib.suppress(OSError):
            for message in self.sync.goodbye():
                await self._channel.send(message)
        await self._channel.close()

    def reconfigured(self) -> None:
        """Reals that were unknown may be known now."""
        if self._incomplete:
            self._incomplete = False
            self.sync.ask_again()
            self.wake()

    async def _read(self) -> None:
        while payloads := await self._channel.receive():
            for payload in payloads:
                was_complete = self.sync.complete
                rows = self.sync.receive(payload, self._clock())
                if self.sync.complete and not was_complete:
                    after_s = round(self._clock() - self._opened_s, 3)
                    log.info("in sync", peer=self.peer.node, rows=self.sync.moved, session_s=after_s)
                if rows is not None:
                    await self._put(rows)
                    await asyncio.sleep(0)  # nor behind many messages
                while self.sync.orders:
                    self._ordered(self.sync.orders.popleft())
                if self.sync.sums_asked:
                    _, sums = await asyncio.to_thread(self._look, False, True)
                    self.sync.compare(sums)
            self.wake()
            self._changed()

    async def _put(self, rows: Rows) -> None:
        """Heartbeats do not wait behind a heap of rows: a thread puts those into the table, one heap at a time."""
        try:
            if len(rows) > FEW:
                left_out = await asyncio.to_thread(self._install, rows)
            else:
                left_out = self._install(rows)
        except Exception:
            log.exception("connections of a peer could not be installed", peer=self.peer.node, rows=len(rows))
            self.sync.failed()
        else:
            self.sync.installed()
            self._count(left_out)

    def _count(self, left_out: int) -> None:
        self.left_out += left_out
        if left_out and not self._incomplete:
            self._incomplete = True
            log.warning("connections to reals that this node does not know are left out", peer=self.peer.node)

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            if self.sync.snapshot_due(self._clock()):
                self._making = asyncio.create_task(self._make())
            while (message := self.sync.next_message(self._clock())) is not None:
                await self._channel.send(message)
                await asyncio.sleep(0)
            timer = self.sync.snapshot_timer
            wait_s = None if timer is None else max(timer - self._clock(), 0.001)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _look(self, ours: bool, with_sums: bool) -> tuple[tuple[Rows, ...], bytes]:
        """Connections, and their sums if wanted; in a thread."""
        families = self._snapshot(ours)
        return families, digest.sums(families) if with_sums else b""

    async def _make(self) -> None:
        try:
            families, sums = await asyncio.to_thread(self._look, True, self.sync.digests)
        except Exception:
            log.exception("no snapshot of the connections could be made", peer=self.peer.node)
            self.sync.resync(self._clock())
        else:
            self.sync.snapshot(families, sums)
        self.wake()
