"""The last things that happened to each real, for `lbctl status REAL`. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from lb.plan import Target

KEPT = 10
"""Entries of each real."""


class Entry(NamedTuple):
    """Something that happened to a real.

    at: Unix time, s. state: what it became, `up` or `down`, or what was ordered: `drained`, `enabled`, `weight 5`.
    was, lasted_s: the state that ended and how long it had lasted; empty and 0 for orders.
    """

    at: float
    state: str
    was: str
    lasted_s: float
    reason: str

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "state": self.state,
            "was": self.was or None,
            "lasted_s": round(self.lasted_s, 1) if self.was else None,
            "reason": self.reason,
        }


History = tuple[Entry, ...]
"""Of one real, the newest last."""


class Histories:
    """Of all reals. What is in it is never changed in place, so that a copy may be written down elsewhere meanwhile."""

    def __init__(self, known: Mapping[Target, History] | None = None) -> None:
        self._known = dict(known or {})

    def add(self, target: Target, entry: Entry) -> None:
        """The newest; the oldest is forgotten."""
        self._known[target] = (*self._known.get(target, ()), entry)[-KEPT:]

    def keep(self, targets: Iterable[Target]) -> None:
        """Forget all reals but these."""
        self._known = {target: self._known[target] for target in targets if target in self._known}

    def of(self, target: Target) -> History:
        """What happened to one."""
        return self._known.get(target, ())

    def snapshot(self) -> dict[Target, History]:
        """All that is known."""
        return dict(self._known)
