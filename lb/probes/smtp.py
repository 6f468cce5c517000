"""`negotiate` over smtp: greeting, EHLO, STARTTLS and login where the check says so, QUIT. No mail is begun.

`receive` and `refuse` look at the greeting. Source: RFC 5321, RFC 3207 (STARTTLS), RFC 4954 and 4616 (AUTH PLAIN).
"""

from __future__ import annotations

import base64
import socket

from lb.probes.base import Seen, Target, Tools, password_of
from lb.probes.dialogue import Dialogue, dialogue
from lb.probes.match import judge_text
from lb.probes.replies import command, greeting
from lb.wording import show

SMTP = "SMTP"


async def probe(target: Target, _tools: Tools) -> Seen:
    """Talk to the server as far as the check says."""
    check = target.check
    async with dialogue(target) as real:
        greeted = await greeting(real, SMTP)
        await _hello(real, check.request)
        if check.tls == "starttls":
            await command(real, SMTP, "STARTTLS", 220)
            await real.start_tls()
            await _hello(real, check.request)
        if check.login:
            words = base64.b64encode(f"\0{check.login}\0{password_of(check)}".encode()).decode()
            await command(real, SMTP, f"AUTH PLAIN {words}", 235, "AUTH")
        real.send("QUIT\r\n")
        warning = real.warning
    weight = await judge_text(check, greeted.text, "greeting")
    return Seen(
        f"logged in as {check.login}" if check.login else f"greeted with {show(greeted.first)}", warning, weight
    )


async def _hello(real: Dialogue, name: str | None) -> None:
    await command(real, SMTP, f"EHLO {name or socket.gethostname()}", 250)
