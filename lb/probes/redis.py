"""`negotiate` over redis: AUTH and SELECT where the check says so, then `request`, without it PING.

The answer's text is what `receive` and `refuse` look at; without them anything but an error will do.
Commands go as arrays of strings, answers are read one level deep (RESP 2 and 3; see Redis' protocol specification).
"""

from __future__ import annotations

import shlex

from lb.probes.base import Failed, Seen, Target, Tools, password_of
from lb.probes.dialogue import Dialogue, dialogue
from lb.probes.match import judge_text
from lb.wording import show

MOST_ELEMENTS = 10000


async def probe(target: Target, _tools: Tools) -> Seen:
    """Ask, and judge the answer."""
    check = target.check
    request = shlex.split(check.request) if check.request else ["PING"]
    async with dialogue(target) as real:
        if password := password_of(check):
            await _command(real, "AUTH", *([check.login] if check.login else []), password)
        if check.database:
            await _command(real, "SELECT", check.database)
        text = await _command(real, *request)
        warning = real.warning
    if check.request is None and text != "PONG":
        raise Failed(f"PING: {show(text)}, expected 'PONG'")
    weight = await judge_text(check, text, "answer", lines=True)
    return Seen(f"{request[0]}: {text.partition(chr(10))[0][:100]}", warning, weight)


async def _command(real: Dialogue, *words: str) -> str:
    parts = [word.encode() for word in words]
    real.send(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    try:
        return await _answer(real)
    except _Refused as refusal:
        raise Failed(f"{words[0]}: {refusal}") from refusal


class _Refused(Exception):  # noqa: N818
    """The server's own error."""


async def _answer(real: Dialogue) -> str:
    """The text of one answer; an array's elements each on a line of its own. Raises Failed and _Refused."""
    lines = []
    left = 1
    while left:
        left -= 1
        line = await real.line()
        kind, rest = line[:1], line[1:]
        if kind in ("-", "!"):
            raise _Refused(rest[:100])
        if kind in ("+", ":", "_", "#", ",", "("):
            lines.append(rest)
        elif kind in ("$", "=") and rest.lstrip("-").isdecimal():
            size = int(rest)
            lines.append((await real.exactly(size + 2))[:-2].decode(errors="replace") if size >= 0 else "")
        elif kind in ("*", "~", ">", "%") and rest.lstrip("-").isdecimal():
            left += max(0, int(rest)) * (2 if kind == "%" else 1)
        else:
            raise Failed(f"not Redis: {show(line)}")
        if left > MOST_ELEMENTS:
            raise Failed(f"an answer of more than {MOST_ELEMENTS} elements")
    return "\n".join(lines)
