"""The addresses of one group: taken and released in the order in which that was decided, never both at once. Edge.

A hook that raises is logged and leads to the safe side: addresses that could not be taken are released and not claimed;
those that could not be released are tried again until that works or they are ours anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from ha.hooks import Hooks
from ha.role import RETRY_S
from ha.state import HANDOVER_S, Release, Take, TakeFailed, Taken

log = structlog.get_logger(__name__)


class Holding:
    """silent: asked, when they are to be taken, who had them and fell silent. happened: told what became of it."""

    def __init__(
        self,
        group: str,
        hooks: Hooks,
        silent: Callable[[str], str],
        happened: Callable[[Taken | TakeFailed, str], None],
    ) -> None:
        self._group, self._hooks, self._silent, self._happened = group, hooks, silent, happened
        self._orders: asyncio.Queue[Take | Release] = asyncio.Queue()

    def order(self, action: Take | Release) -> None:
        """To be carried out after what was ordered before."""
        self._orders.put_nowait(action)

    async def settled(self) -> None:
        """Return when all orders are carried out."""
        await self._orders.join()

    async def carry_out(self) -> None:
        """For ever. Raises what `happened` raises."""
        while True:
            order = await self._orders.get()
            try:
                if isinstance(order, Take):
                    self._happened(await self._take(), self._group)
                else:
                    await self._release()
            finally:
                self._orders.task_done()

    async def _take(self) -> Taken | TakeFailed:
        try:
            async with asyncio.timeout(HANDOVER_S):
                await self._hooks.take(self._group, self._silent(self._group))
        except Exception:
            log.exception("the address could not be taken", next_try_s=RETRY_S)
            with contextlib.suppress(Exception):
                await self._hooks.release(self._group)
            return TakeFailed()
        return Taken(time.time_ns())

    async def _release(self) -> None:
        while True:
            try:
                await self._hooks.release(self._group)
            except Exception:
                log.exception("the address could not be released", next_try_s=RETRY_S)
            else:
                return
            if not self._orders.empty():
                return
            await asyncio.sleep(RETRY_S)
