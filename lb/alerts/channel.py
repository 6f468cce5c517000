"""One way of telling people: gathers events, sends them no more often than is wished, and tries again.

What happens together is told together: a message waits a moment for others. What happens within the least time between
two messages waits for the next one. What cannot be sent waits as well, longer after each failure; of what waits too
long the oldest is left out, and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from lb.alerts.digest import Digest, Event

log = structlog.get_logger(__name__)

GATHER_S = 0.5
"""How long the first event waits for others."""
MOST = 1000
"""Events of one message, and events that wait."""
SEND_LIMIT_S = 30.0
"""How long sending may take."""
LONGEST_PAUSE_S = 300.0
"""Between two attempts, however often it failed."""
ROLE_INTERVAL_S = 0.2
"""How often a director that has no role yet looks whether it has one."""


class UnsentError(Exception):
    """A message that could not be sent; the text is the reason."""


class Channel:
    """A way of telling, from its making in a running loop until `close`.

    name: for the log. every_s: least time between two messages. role: `active` and `standby` decide whether this
    director tells at all; while it is another word, events wait. failures: messages that could not be sent.
    """

    def __init__(
        self, name: str, send: Callable[[Digest], Awaitable[None]], every_s: float, head: tuple[str, str],
        role: Callable[[], str],
    ) -> None:  # fmt: skip
        self.name = name
        self.failures = 0
        self._send, self._every_s = send, every_s
        self._cluster, self._node = head
        self._role = role
        self._pending: deque[Event] = deque()
        self._omitted = 0
        self._waiting = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def tell(self, event: Event) -> None:
        """Sooner or later; never waits."""
        self._put(event)
        self._waiting.set()

    async def close(self) -> None:
        """Send nothing more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _put(self, event: Event) -> None:
        self._pending.append(event)
        if len(self._pending) > MOST:
            self._pending.popleft()
            self._omitted += 1

    async def _run(self) -> None:
        failed = 0
        while True:
            await self._waiting.wait()
            await asyncio.sleep(GATHER_S)
            while (role := self._role()) not in ("active", "standby"):  # noqa: ASYNC110 - a role has no event
                await asyncio.sleep(ROLE_INTERVAL_S)
            digest = Digest(self._cluster, self._node, tuple(self._pending), self._omitted)
            self._pending.clear()
            self._omitted = 0
            self._waiting.clear()
            if role == "standby":
                continue
            failed = 0 if await self._sent(digest) else failed + 1
            if self._task.cancelling():  # before Python 3.12 asyncio.wait_for may keep that to itself
                return
            await asyncio.sleep(min(self._every_s * 2**failed, max(LONGEST_PAUSE_S, self._every_s)))

    async def _sent(self, digest: Digest) -> bool:
        """Try; what could not be sent waits again, before what came meanwhile."""
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                await self._send(digest)
        except TimeoutError:
            reason = f"took longer than {SEND_LIMIT_S:g} s"
        except UnsentError as error:
            reason = str(error)
        except Exception as error:
            log.exception("an alert has a fault", by=self.name)
            reason = f"fault of the alert itself: {type(error).__name__}: {error}"
        else:
            log.info("alert sent", by=self.name, changes=len(digest.events))
            return True
        self.failures += 1
        log.warning("an alert could not be sent; it is tried again", by=self.name, reason=reason)
        came, self._pending = self._pending, deque()
        self._omitted += digest.omitted
        for event in (*digest.events, *came):
            self._put(event)
        self._waiting.set()
        return False
