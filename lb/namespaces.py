"""Being in a network namespace that has a name, as `ip netns` keeps them: mounts under /run/netns.

`lb.netif.names` makes and removes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from lb.errors import NetworkError

DIRECTORY = Path("/run/netns")

_CLONE_NEWUTS = 0x04000000
_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def exists(name: str) -> bool:
    """Is there a namespace of that name?"""
    return (DIRECTORY / name).exists()


def open_fd(name: str) -> int:
    """A descriptor of a namespace, the caller's to close. Raises NetworkError."""
    try:
        return os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkError(f"cannot open network namespace {name}: {error.strerror}; see `ip netns list`") from None


def inode(name: str) -> int | None:
    """What the kernel calls it (the number in /proc/PID/ns/net), None if it is not there."""
    try:
        return (DIRECTORY / name).stat().st_ino
    except FileNotFoundError:
        return None


def current() -> str | None:
    """The name of the calling thread's namespace, None where it has none."""
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    return next((path.name for path in DIRECTORY.glob("*") if inode(path.name) == own), None)


def processes(inodes: set[int]) -> dict[int, list[int]]:
    """The processes in each of these namespaces, by inode, found in /proc."""
    found: dict[int, list[int]] = {number: [] for number in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            number = (process / "ns/net").stat().st_ino
            if number in found:
                found[number].append(int(process.name))
    return found


def enter(name: str, hostname: str) -> None:
    """Move the calling thread into a namespace, and into one of its own for the host name. Raises NetworkError."""
    fd = open_fd(name)
    try:
        _check(_libc.setns(fd, _CLONE_NEWNET))
        _check(_libc.unshare(_CLONE_NEWUTS))
        socket.sethostname(hostname)
    except OSError as error:
        mend = "run it as root" if error.errno == errno.EPERM else f"see `ip netns list`, and `ls -l {DIRECTORY}`"
        raise NetworkError(f"cannot enter network namespace {name}: {error.strerror}; {mend}") from None
    finally:
        os.close(fd)


@contextlib.contextmanager
def inside(name: str, hostname: str) -> Iterator[None]:
    """The calling thread, and processes that it starts, are in the namespace meanwhile. Raises NetworkError."""
    before = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "uts")]
    try:
        enter(name, hostname)
        yield
    finally:
        for fd in before:
            _check(_libc.setns(fd, 0))
            os.close(fd)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
