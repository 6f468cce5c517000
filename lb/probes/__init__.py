"""The checks that reals can be given. `PROBES` is the table; each row's protocol lives in a file of its own.

A new check is a coroutine of the type `Probe` in its own file, a row here, its row in `lb.kinds` and its word in
`lb.catalog`. A file is imported when the first check needs it, so that an optional library is missed by those who ask
for it only.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from lb.asking import alone
from lb.health import Outcome
from lb.kinds import MOTLEY, kind_of
from lb.model import Check, format_duration
from lb.probes import combine, http
from lb.probes.base import (
    MOST_THREADS,
    Failed,
    NotAskedError,
    NotYetError,
    Probe,
    Seen,
    Target,
    Tools,
    os_reason,
    password_of,
)

__all__ = [
    "PROBES", "Failed", "NotAskedError", "NotYetError", "Outcome", "Probe", "Seen", "Target", "Tools", "ask",
    "open_tools", "probe_of",
]  # fmt: skip

PROBES: dict[tuple[str, str | None], str] = {
    ("negotiate", "http"): "http:probe",
    ("negotiate", "https"): "http:probe",
    ("negotiate", "http2"): "http2:probe",
    ("negotiate", "http_proxy"): "http:through",
    ("negotiate", "grpc"): "http2:grpc",
    ("negotiate", "ftp"): "ftp:probe",
    ("negotiate", "smtp"): "smtp:probe",
    ("negotiate", "pop"): "pop:probe",
    ("negotiate", "imap"): "imap:probe",
    ("negotiate", "nntp"): "nntp:probe",
    ("negotiate", "ldap"): "ldap:probe",
    ("negotiate", "ldaps"): "ldap:probe",
    ("negotiate", "mysql"): "mysql:probe",
    ("negotiate", "postgresql"): "postgresql:probe",
    ("negotiate", "redis"): "redis:probe",
    ("negotiate", "dns"): "dns:probe",
    ("negotiate", "sip"): "sip:probe",
    ("negotiate", "radius"): "radius:probe",
    ("negotiate", "simpletcp"): "simple:tcp",
    ("negotiate", "simpleudp"): "simple:udp",
    ("connect", None): "connect:probe",
    ("ping", None): "ping:probe",
    ("external", None): "external:probe",
    ("on", None): "constant:on",
    ("off", None): "constant:off",
}
"""(check type, service if the type has one) → module of this package and its coroutine. `all` and `any` are `ask`'s."""

OUR_OWN = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Errors that speak of this director and not of the real: no descriptor, memory or port left."""

HIDDEN = "***"
"""What stands in a reason for a password that a real sent back."""
REFUSED = "refused"
LEAST_BEGINNING = 3
"""Characters of a password, at the end of a reason, that tell something of it."""


def open_tools(reach: Callable[[Target], None] = lambda _target: None) -> Tools:
    """What the probes share. Inside the running loop; whoever opens it closes it. reach: see Tools."""
    return Tools(http.session(), ThreadPoolExecutor(MOST_THREADS, "check"), asyncio.Semaphore(MOST_THREADS), reach)


@lru_cache(maxsize=256)
def probe_of(type_: str, service: str) -> Probe:
    """The probe of a check that `lb.config` let pass. Raises NotAskedError where its library is not installed."""
    module, _, name = PROBES[type_, service if type_ == "negotiate" else None].partition(":")
    try:
        probe: Probe = getattr(importlib.import_module(f"lb.probes.{module}"), name)
    except ModuleNotFoundError as error:
        extra = kind_of(type_, service).extra
        raise NotAskedError(f"{service} needs {error.name}: pip install 'lbctl[{extra}]'") from error
    return probe


async def ask(target: Target, tools: Tools) -> Outcome:
    """Ask one real once, for no longer than the check's timeout, connecting and reading included.

    Raises NotAskedError, and whatever a faulty probe raises.
    """
    started_s = time.monotonic()
    ok, seen = False, Seen("")
    try:
        tools.reach(target)
        async with asyncio.timeout(target.check.timeout):
            seen = await _put(target, tools)
        ok = True
    except TimeoutError:
        seen = Seen(f"no answer within {format_duration(target.check.timeout)}")
    except Failed as failure:
        seen = Seen(str(failure))
    if not ok and target.check.via == "virtual":
        seen = seen._replace(reason=f"{seen.reason}, asked as {target.name}{_hint(seen.reason)}")
    return Outcome(ok, seen.reason, time.monotonic() - started_s, seen.weight, seen.warning)


def _hint(reason: str) -> str:
    """What to look for first where a real does not answer as its virtual."""
    if reason == REFUSED:
        return " (does the service listen on it?)"
    return " (has the real that address on lo?)" if reason.startswith("no ") else ""


async def _put(target: Target, tools: Tools) -> Seen:
    """The question, or all its parts. Raises Failed, NotAskedError, and whatever a faulty probe raises."""
    check = target.check
    if check.type not in MOTLEY:
        return await _put_one(target, tools)
    answers = []
    for part in check.parts:
        single = alone(part, check)
        asked = Target(target.address, single.port or target.port, single, target.service)
        answers.append((part.name, _put_one(asked, tools)))
    return await (combine.every if check.type == "all" else combine.either)(answers)


async def _put_one(target: Target, tools: Tools) -> Seen:
    check = target.check
    try:
        seen = await probe_of(check.type, check.service)(target, tools)
        return seen._replace(reason=_without_passwords(seen.reason, check))
    except Failed as failure:
        raise Failed(_without_passwords(str(failure), check)) from failure
    except TimeoutError:
        raise
    except OSError as error:
        if error.errno in OUR_OWN:
            raise NotAskedError(os_reason(error)) from error
        raise Failed(os_reason(error)) from error


def _without_passwords(reason: str, check: Check) -> str:
    """Servers quote what they did not understand, and what they are sent may be a password."""
    password, secret = password_of(check), password_of(check, "secret")
    pairs = (f"\0{check.login}\0{password}", f"{check.login}:{password}") if password else ()
    encoded = (base64.b64encode(pair.encode()).decode() for pair in pairs)
    for word in filter(None, (password, repr(password)[1:-1], secret, *encoded)):
        reason = _without(reason, word)
    return reason


def _without(reason: str, word: str) -> str:
    """The reason without a word, nor with its beginning where the reason was cut within it."""
    reason = reason.replace(word, HIDDEN)
    for length in range(len(word) - 1, LEAST_BEGINNING - 1, -1):
        at = reason.rfind(word[:length])
        if at >= 0 and len(reason) - at - length <= len("…'"):
            return reason[:at] + HIDDEN
    return reason
