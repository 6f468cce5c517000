"""`on` and `off`: verdicts that need no question."""

from __future__ import annotations

from lb.probes.base import Failed, Target, Tools


async def on(_target: Target, _tools: Tools) -> str:
    """Always well."""
    return "check is 'on'"


async def off(_target: Target, _tools: Tools) -> str:
    """Never well."""
    raise Failed("check is 'off'")
