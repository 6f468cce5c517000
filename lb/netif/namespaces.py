"""Network namespaces with names, as `ip netns` keeps them: bind mounts under /run/netns."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import netns

from lb.errors import NetworkError

_DIRECTORY = Path("/run/netns")
_CLONE_NEWUTS = 0x04000000

_libc = ctypes.CDLL(None, use_errno=True)


def exists(name: str) -> bool:
    """Is there a namespace of that name?"""
    return (_DIRECTORY / name).exists()


def create(name: str) -> None:
    """Make an empty namespace with its loopback down. Raises NetworkError."""
    try:
        netns.create(name)
    except OSError as error:
        raise NetworkError(f"cannot create network namespace {name}: {error}; see `ip netns list`") from None


def remove(name: str) -> None:
    """Forget a namespace; the kernel ends it with its last process or socket. Nothing happens if it is not there.

    Raises NetworkError.
    """
    try:
        netns.remove(name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NetworkError(f"cannot remove network namespace {name}: {error.strerror}") from None


def open_fd(name: str) -> int:
    """A descriptor of a namespace, the caller's to close. Raises NetworkError."""
    try:
        return os.open(_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkError(f"cannot open network namespace {name}: {error.strerror}") from None


def inode(name: str) -> int | None:
    """What the kernel calls it (the number in /proc/PID/ns/net), None if it is not there."""
    try:
        return (_DIRECTORY / name).stat().st_ino
    except FileNotFoundError:
        return None


def current() -> str | None:
    """The name of the calling thread's namespace, None where it has none."""
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    return next((path.name for path in _DIRECTORY.glob("*") if inode(path.name) == own), None)


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
    try:
        netns.setns(name, flags=0)
        if _libc.unshare(_CLONE_NEWUTS):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        socket.sethostname(hostname)
    except OSError as error:
        raise NetworkError(
            f"cannot enter network namespace {name}: {error.strerror or error}; run it as root"
        ) from None


@contextlib.contextmanager
def inside(name: str, hostname: str) -> Iterator[None]:
    """The calling thread, and processes that it starts, are in the namespace meanwhile. Raises NetworkError."""
    before = [(os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in ("net", "uts")]
    try:
        enter(name, hostname)
        yield
    finally:
        for fd in before:
            if _libc.setns(fd, 0):
                raise NetworkError(f"cannot leave network namespace {name}: {os.strerror(ctypes.get_errno())}")
            os.close(fd)
