"""`negotiate` over postgresql: log in, run `request`, without it `SELECT 1`; a row must come.

`receive` and `refuse` look at that row's columns, with tabs between them.
"""

from __future__ import annotations

import contextlib
import socket

import pg8000.native

from lb.probes.base import Failed, Seen, Target, Tools, password_of
from lb.probes.blocking import in_thread, tls_of
from lb.probes.match import judge_text
from lb.probes.tls import name_of, warning_of
from lb.wording import show


async def probe(target: Target, tools: Tools) -> Seen:
    """Run the statement."""
    check = target.check
    password, tls = password_of(check), tls_of(check)

    def work(connected: socket.socket) -> tuple[str, str]:
        try:
            connection = pg8000.native.Connection(
                check.login,
                host=name_of(target),
                database=check.database,
                password=password,
                ssl_context=tls or False,
                application_name="lbctl",
                sock=connected,
            )
            try:
                warning = warning_of(check, connection._usock if tls else None)
                rows = connection.run(check.request or "SELECT 1")
            finally:
                with contextlib.suppress(Exception):
                    connection.close()
        except pg8000.native.DatabaseError as error:
            raise Failed(_reason(error)) from None
        if not rows:
            raise Failed("no row in the answer")
        return "\t".join(map(str, rows[0])), warning

    text, warning = await in_thread(target, tools, "PostgreSQL", work)
    weight = await judge_text(check, text, "row")
    return Seen(f"answered {show(text)}", warning, weight)


def _reason(error: pg8000.native.DatabaseError) -> str:
    """The server's own words: M is the message, C the code (PostgreSQL's protocol, error fields)."""
    said = error.args[0] if error.args else ""
    if isinstance(said, dict):
        return f"error {said.get('C', '')}: {said.get('M', '')[:100]}"
    return f"error: {str(said)[:100]}"
