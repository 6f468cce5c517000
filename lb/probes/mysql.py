"""`negotiate` over mysql (and MariaDB): log in, run `request`, without it `SELECT 1`; a row must come.

`receive` and `refuse` look at that row's columns, with tabs between them. A login is needed: servers count connections
that go away without one, and in the end shut the client out (`max_connect_errors`).
"""

from __future__ import annotations

import contextlib
import socket

import pymysql

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
        connection = pymysql.Connection(
            host=name_of(target),
            user=check.login,
            password=password,
            database=check.database,
            charset="utf8mb4",
            ssl=tls,
            ssl_disabled=tls is None,
            read_timeout=check.timeout,
            write_timeout=check.timeout,
            defer_connect=True,
        )
        try:
            connection.connect(connected)
            warning = warning_of(check, getattr(connection, "_sock", None) if tls else None)
            cursor = connection.cursor()
            cursor.execute(check.request or "SELECT 1")
            row = cursor.fetchone()
        except (pymysql.err.OperationalError, pymysql.err.ProgrammingError) as error:
            code, *said = error.args
            if isinstance(code, int) and code < 2000:  # the server's own; the client library's begin there
                raise Failed(f"error {code}: {str(*said)[:100]}") from None
            raise
        finally:
            with contextlib.suppress(Exception):
                connection.close()
        if row is None:
            raise Failed("no row in the answer")
        return "\t".join(map(str, row)), warning

    text, warning = await in_thread(target, tools, "MySQL", work)
    weight = await judge_text(check, text, "row")
    return Seen(f"answered {show(text)}", warning, weight)
