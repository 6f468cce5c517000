"""`negotiate` over ftp: login, and where the check names a file in `request`, its content by a passive transfer.

The data connection goes to the real's own address, whatever address it names, so that nobody can make a director
connect elsewhere. Source: RFC 959, RFC 4217 (AUTH TLS; the data connection is protected as well).
"""

from __future__ import annotations

import re
from dataclasses import replace

from lb.probes.base import Failed, Seen, Target, Tools, password_of
from lb.probes.dialogue import Dialogue, dialogue
from lb.probes.match import judge_text
from lb.probes.replies import command, greeting, reply
from lb.wording import show

FTP = "FTP"
ANONYMOUS = ("anonymous", "lbctl@")
_PASSIVE = re.compile(r"(?:\d{1,3},){4}(\d{1,3}),(\d{1,3})")


async def probe(target: Target, _tools: Tools) -> Seen:
    """Log in; fetch the file."""
    check = target.check
    user, password = (check.login, password_of(check)) if check.login else ANONYMOUS
    async with dialogue(target) as real:
        greeted = await greeting(real, FTP)
        if check.tls == "starttls":
            await command(real, FTP, "AUTH TLS", 234)
            await real.start_tls()
        real.send(f"USER {user}\r\n")
        answer = await reply(real, FTP)
        if answer.code == 331:
            await command(real, FTP, f"PASS {password}", 2, "PASS")
        elif answer.code != 230:
            raise Failed(f"USER: {answer.first}")
        warning = real.warning
        if check.request is None:
            real.send("QUIT\r\n")
            weight = await judge_text(check, greeted.text, "greeting")
            return Seen(f"logged in as {user}", warning, weight)
        content = await _fetch(real, target, check.request)
    weight = await judge_text(check, content, "file")
    return Seen(f"fetched {check.request}", warning, weight)


async def _fetch(real: Dialogue, target: Target, path: str) -> bytes:
    """The file's first LIMIT bytes."""
    encrypted = target.check.encrypted
    if encrypted:
        await command(real, FTP, "PBSZ 0", 2)
        await command(real, FTP, "PROT P", 2)
    await command(real, FTP, "TYPE I", 2)
    passive = await command(real, FTP, "PASV", 227)
    found = _PASSIVE.search(passive.text)
    port = 256 * int(found[1]) + int(found[2]) if found else 0
    if not 0 < port < 65536:
        raise Failed(f"not FTP: {show(passive.first)}")
    real.send(f"RETR {path}\r\n")
    content = bytearray()
    async with dialogue(replace(target, port=port), encrypted=encrypted) as data:
        begun = await reply(real, FTP)
        if begun.code // 100 != 1:
            raise Failed(f"RETR: {begun.first}")
        async for piece in data.pieces():
            content += piece
    return bytes(content)
