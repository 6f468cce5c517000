"""`negotiate` over imap: greeting, STARTTLS and login where the check says so, LOGOUT.

`receive` and `refuse` look at the greeting. Source: RFC 3501; literals as RFC 7888 has them are not needed, because
what could not be quoted is sent as a literal that the server asks for.
"""

from __future__ import annotations

from lb.probes.base import Failed, Seen, Target, Tools, password_of
from lb.probes.dialogue import Dialogue, dialogue
from lb.probes.match import judge_text
from lb.wording import show

MOST_LINES = 200
"""Untagged lines before the tagged one."""


async def probe(target: Target, _tools: Tools) -> Seen:
    """Talk to the server as far as the check says."""
    check = target.check
    async with dialogue(target) as real:
        greeted = await real.line()
        if not greeted.startswith(("* OK", "* PREAUTH")):
            raise Failed(f"greeted with {show(greeted)}" if greeted.startswith("* BYE") else _not_imap(greeted))
        if check.tls == "starttls":
            real.send("a STARTTLS\r\n")
            await _tagged(real, "STARTTLS")
            await real.start_tls()
        if check.login:
            real.send("b LOGIN")
            for word in (check.login, password_of(check)):
                await _word(real, word)
            real.send("\r\n")
            await _tagged(real, "LOGIN")
        real.send("c LOGOUT\r\n")
        warning = real.warning
    weight = await judge_text(check, greeted, "greeting")
    return Seen(f"logged in as {check.login}" if check.login else f"greeted with {show(greeted)}", warning, weight)


async def _word(real: Dialogue, word: str) -> None:
    """One argument, behind a blank: quoted where it can be, else as a literal, for which the server is waited for."""
    if word.isascii() and word.isprintable():
        quoted = word.replace("\\", "\\\\").replace('"', '\\"')
        real.send(f' "{quoted}"')
        return
    data = word.encode()
    real.send(f" {{{len(data)}}}\r\n")
    line = await real.line()
    if not line.startswith("+"):
        raise Failed(f"LOGIN: {line[:100]}")
    real.send(data)


async def _tagged(real: Dialogue, what: str) -> None:
    """Read up to the answer to the last command. Raises Failed if that is not OK."""
    for _ in range(MOST_LINES):
        line = await real.line()
        tag, _, rest = line.partition(" ")
        if tag == "*":
            continue
        if rest.startswith("OK"):
            return
        raise Failed(f"{what}: {rest[:100]}" if rest.startswith(("NO", "BAD")) else _not_imap(line))
    raise Failed(f"more than {MOST_LINES} lines before the answer to {what}")


def _not_imap(line: str) -> str:
    return f"not IMAP: {show(line)}"
