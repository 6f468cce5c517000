"""Making and removing network namespaces that have a name; `lb.namespaces` is about being in one."""

from __future__ import annotations

from pyroute2 import netns

from lb.errors import NetworkError


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
