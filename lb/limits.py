"""Who may open connections, and how many a second: `[limits]` as the packet program has it compiled in. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lb.addresses import Network
from lb.model import Limits as Settings

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class DenyList:
    """Its name and its prefixes, each once."""

    name: str
    prefixes: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """interval_ns: time for one connection of a client, in the long run; burst: how many at once; 0 and 0: no limit."""

    interval_ns: int = 0
    burst: int = 0
    deny: tuple[DenyList, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """What the file says. A burst that it does not say is one second's."""
        rate = settings.new_connections
        lists = tuple(DenyList(deny.name, tuple(dict.fromkeys(deny.prefixes))) for deny in settings.deny)
        return cls(_SECOND_NS // rate if rate else 0, (settings.burst or rate) if rate else 0, lists)
