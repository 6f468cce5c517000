"""The checks that reals can be given. `PROBES` is the table; each row's protocol lives in a file of its own.

A new check is a coroutine of the type `Probe` in its own file, a row here and its word in `lb.catalog`.
"""

from __future__ import annotations

import asyncio
import errno
import time

from lb.health import Outcome
from lb.model import Check, format_duration
from lb.probes import connect, constant, http
from lb.probes.base import Failed, Probe, Target, Tools, Weighed, os_reason

__all__ = [
    "PROBES", "Failed", "NotAskedError", "Outcome", "Probe", "Target", "Tools", "Weighed", "ask", "open_tools",
    "probe_of",
]  # fmt: skip

PROBES: dict[tuple[str, str | None], Probe] = {
    ("negotiate", "http"): http.probe,
    ("negotiate", "https"): http.probe,
    ("connect", None): connect.probe,
    ("on", None): constant.on,
    ("off", None): constant.off,
}
"""(check type, service if the type has one) → probe."""

OUR_OWN = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Errors that speak of this director and not of the real: no descriptor, memory or port left."""


class NotAskedError(Exception):
    """This director could not ask; nothing is known of the real. str() is the reason."""


def open_tools() -> Tools:
    """What the probes share. Inside the running loop; whoever opens it closes `web`."""
    return Tools(http.session())


def probe_of(check: Check) -> Probe:
    """The probe of a check that `lb.config` let pass."""
    return PROBES[check.type, check.service if check.type == "negotiate" else None]


async def ask(target: Target, tools: Tools) -> Outcome:
    """Ask one real once, for no longer than the check's timeout, connecting and reading included.

    Raises NotAskedError, and whatever a faulty probe raises.
    """
    started_s = time.monotonic()
    ok, reason, weight = False, "", None
    try:
        async with asyncio.timeout(target.check.timeout):
            answer = await probe_of(target.check)(target, tools)
        reason, weight = answer if isinstance(answer, Weighed) else (answer, None)
        ok = True
    except TimeoutError:
        reason = f"no answer within {format_duration(target.check.timeout)}"
    except Failed as failure:
        reason = str(failure)
    except OSError as error:
        if error.errno in OUR_OWN:
            raise NotAskedError(os_reason(error)) from error
        reason = os_reason(error)
    return Outcome(ok, reason, time.monotonic() - started_s, weight)
