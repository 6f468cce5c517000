"""Answers of three digits, as FTP (RFC 959 section 4.2) and SMTP (RFC 5321 section 4.2) give them."""

from __future__ import annotations

from typing import NamedTuple

from lb.probes.base import Failed
from lb.probes.dialogue import Dialogue
from lb.wording import show

MOST_LINES = 200
"""Lines of one reply; a server that greets with more is not one to wait for."""


class Reply(NamedTuple):
    """code: 100 to 599. text: its lines without the code."""

    code: int
    text: str

    @property
    def first(self) -> str:
        """Code and first line, cut short for a reason."""
        return f"{self.code} {self.text.partition(chr(10))[0]}"[:120].strip()


async def reply(real: Dialogue, protocol: str) -> Reply:
    """The next reply, of one line or several. Raises Failed."""
    line = await real.line()
    code, mark = line[:3], line[3:4]
    if not (code.isascii() and code.isdigit() and 100 <= int(code) <= 599 and mark in ("", " ", "-")):
        raise Failed(f"not {protocol}: {show(line)}")
    lines = [line[4:]]
    last = mark != "-"
    while not last:
        if len(lines) == MOST_LINES:
            raise Failed(f"a reply of more than {MOST_LINES} lines")
        line = await real.line()
        last = line[:3] == code and line[3:4] != "-"
        lines.append(line[4:] if line.startswith(code) else line)
    return Reply(int(code), "\n".join(lines))


async def command(real: Dialogue, protocol: str, line: str, wanted: int, what: str = "") -> Reply:
    """Send a line, and expect a reply of the class (2, 3) or with the code (235) that is wanted.

    what: how the line is called in a reason, where it is a secret; else its first word. Raises Failed.
    """
    real.send(f"{line}\r\n")
    answer = await reply(real, protocol)
    if wanted not in (answer.code, answer.code // 100):
        raise Failed(f"{what or line.partition(' ')[0]}: {answer.first}")
    return answer


async def greeting(real: Dialogue, protocol: str) -> Reply:
    """What the server says first; one that turns us away (421, 554) has failed."""
    answer = await reply(real, protocol)
    if answer.code // 100 != 2:
        raise Failed(f"greeted with {show(answer.first)}")
    return answer
