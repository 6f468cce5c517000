"""Kernel settings of the calling thread's network namespace, through /proc/sys and without a subprocess."""

from __future__ import annotations

import os
from pathlib import Path

from lb.errors import NetworkError

_ROOT = Path("/proc/sys")


def read(name: str) -> str:
    """The value of a setting named like `net/ipv4/conf/all/arp_ignore`. Raises NetworkError."""
    try:
        return (_ROOT / name).read_text().strip()
    except OSError as error:
        raise NetworkError(f"cannot read /proc/sys/{name}: {error.strerror}") from None


def write(name: str, value: str) -> None:
    """Set a setting. Raises NetworkError."""
    try:
        (_ROOT / name).write_text(value)
    except OSError as error:
        mend = (
            f"run it as root, not as user {os.geteuid()}"
            if isinstance(error, PermissionError)
            else "this kernel does not take it"
        )
        raise NetworkError(f"cannot write {value!r} to /proc/sys/{name}: {error.strerror}; {mend}") from None


def exists(name: str) -> bool:
    """Has this kernel the setting? Those of an interface go with it."""
    return (_ROOT / name).exists()
