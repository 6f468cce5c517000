"""`negotiate` over nntp: the greeting says whether the server is willing (RFC 3977 section 5.1)."""

from __future__ import annotations

from lb.probes.base import Seen, Target, Tools
from lb.probes.dialogue import dialogue
from lb.probes.match import judge_text
from lb.probes.replies import greeting
from lb.wording import show


async def probe(target: Target, _tools: Tools) -> Seen:
    """Read the greeting."""
    async with dialogue(target) as real:
        greeted = await greeting(real, "NNTP")
        real.send("QUIT\r\n")
        warning = real.warning
    weight = await judge_text(target.check, greeted.text, "greeting")
    return Seen(f"greeted with {show(greeted.first)}", warning, weight)
