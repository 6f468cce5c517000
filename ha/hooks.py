"""What failover asks of others: of the network, of the data plane, of whoever shares more than connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ha.state import Role
from lb.connections import Ours, Rows


class Hooks(Protocol):
    """What failover asks of the network. group: of virtual addresses, see `ha.member`."""

    async def take(self, group: str, silent: str) -> None:
        """Return when its addresses are up and announced. silent: who had them and fell silent; empty: none."""

    async def release(self, group: str) -> None:
        """Return when they are gone; nothing to do if they are not there."""

    async def holder(self, group: str) -> str:
        """Who else answers for one of them now, in words; empty: nobody."""

    def announce(self, group: str) -> None:
        """Say again where they are."""

    def hush(self, group: str) -> None:
        """Leave out what is still to come of saying so."""

    def left(self, peer: str) -> None:
        """It has ended in order: it told all that it knew, and forwards no more."""

    def now(self, group: str, role: Role) -> None:
        """Our role has changed."""


class Table(Protocol):
    """What it asks of the data plane."""

    def snapshot(self) -> tuple[Rows, ...]:
        """All connections, an array for each family; called in a thread."""

    def install(self, rows: Rows, ours: Ours) -> int:
        """Put a peer's connections into the table, `ha.rows.MAX_ROWS` at most; many in a thread. ours: what stays.

        Returns how many have no place there, since their real is unknown.
        """


class Shared(Protocol):
    """What else directors tell each other: any bytes, each time in whole or in parts."""

    def orders(self) -> Iterable[bytes]:
        """All that a peer must know."""

    def ordered(self, orders: bytes) -> None:
        """A peer has told this."""
