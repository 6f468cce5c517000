"""`on` and `off`: verdicts that need no question."""

from __future__ import annotations

from lb.probes.base import Failed, Seen, Target, Tools


async def on(_target: Target, _tools: Tools) -> Seen:
    """Always well."""
    return Seen("check is 'on'")


async def off(_target: Target, _tools: Tools) -> Seen:
    """Never well."""
    raise Failed("check is 'off'")
