"""Files of the programs that lbctl replaces: each directive is in the translation, or named with its line. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from lb.migrate import ipvsadm, keepalived, ldirectord
from lb.migrate.draft import Draft as Draft
from lb.migrate.draft import Note as Note
from lb.migrate.draft import text as text
from lb.migrate.ends import PortOf

FORMATS: dict[str, Callable[[str, PortOf], Draft]] = {
    "ldirectord": ldirectord.translate,
    "keepalived": keepalived.translate,
    "ipvsadm": ipvsadm.translate,
}
"""Whose file it is: an ldirectord.cf, a keepalived.conf, what `ipvsadm -S` prints."""

_SIGNS = {
    "ipvsadm": re.compile(r"^\s*(?:ipvsadm\s+)?(?:-A|--add-service)\s", re.MULTILINE),
    "keepalived": re.compile(r"^(?:virtual_server|vrrp_instance|global_defs)\b[^=]*\{?", re.MULTILINE),
    "ldirectord": re.compile(r"^(?:virtual6?|checktimeout|checkinterval|quiescent|autoreload)\s*=", re.MULTILINE),
}


def guess(words: str) -> str | None:
    """Whose file it seems to be."""
    return next((name for name, sign in _SIGNS.items() if sign.search(words)), None)
