"""`negotiate` over pop: greeting, STLS and login where the check says so, QUIT.

`receive` and `refuse` look at the greeting. Source: RFC 1939, RFC 2595 (STLS).
"""

from __future__ import annotations

from lb.probes.base import Failed, Seen, Target, Tools, password_of
from lb.probes.dialogue import Dialogue, dialogue
from lb.probes.match import judge_text
from lb.wording import show


async def probe(target: Target, _tools: Tools) -> Seen:
    """Talk to the server as far as the check says."""
    check = target.check
    async with dialogue(target) as real:
        greeted = await _answer(real, "greeting")
        if check.tls == "starttls":
            await _command(real, "STLS", "STLS")
            await real.start_tls()
        if check.login:
            await _command(real, f"USER {check.login}", "USER")
            await _command(real, f"PASS {password_of(check)}", "PASS")
        real.send("QUIT\r\n")
        warning = real.warning
    weight = await judge_text(check, greeted, "greeting")
    return Seen(f"logged in as {check.login}" if check.login else f"greeted with {show(greeted)}", warning, weight)


async def _command(real: Dialogue, line: str, what: str) -> None:
    real.send(f"{line}\r\n")
    await _answer(real, what)


async def _answer(real: Dialogue, what: str) -> str:
    line = await real.line()
    if line.startswith("+OK"):
        return line
    raise Failed(f"{what}: {line[:100]}" if line.startswith("-ERR") else f"not POP3: {show(line)}")
