"""Where a running director leaves its traces: `/run/lbctl/NODE.sock` and its neighbours; and how a command finds it.

NODE.sock        control socket, mode 0600 (lb.api, lb.client)
NODE.lock        held while a director of that name runs
NODE.state.json  what outlives a restart: operator's overrides, last known health (lb.state)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lb.errors import LbctlError, NotRunningError, UsageError

if TYPE_CHECKING:
    from lb.model import Cluster

RUN_DIR = Path("/run/lbctl")

_LONGEST_SOCKET_PATH = 107
"""Bytes: sun_path of unix(7) without its final zero."""

AUTHKEYS_VARIABLE = "LBCTL_AUTHKEYS"
"""Names another authkeys file than the configuration's; the lab uses it."""


def authkeys_path(cluster: Cluster) -> Path:
    """Where this process finds the shared keys."""
    return Path(os.environ.get(AUTHKEYS_VARIABLE) or cluster.authkeys_path)


def socket_path(node: str) -> Path:
    """The control socket of a director on this machine."""
    return RUN_DIR / f"{node}.sock"


def state_path(node: str) -> Path:
    """The file of what outlives a restart."""
    return RUN_DIR / f"{node}.state.json"


@contextlib.contextmanager
def lock(node: str) -> Iterator[None]:
    """Be the only process of this director; the claim ends with the process, however that dies.

    Raises LbctlError if another process holds it.
    """
    RUN_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = RUN_DIR / f"{node}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                raise BlockingIOError  # the one before us removed it just now: somebody else may hold its successor
        except (BlockingIOError, FileNotFoundError):
            raise LbctlError(
                f"{node} runs already on this machine; 'lbctl status --node {node}' shows it, "
                "'lbctl reload' applies a changed file"
            ) from None
        try:
            yield
        finally:
            path.unlink()


def find_director(asked: str | None) -> str:
    """The name of the director that a command is meant for.

    asked: --node. Without it: the one in this network namespace (in a lab every host has its own), else the only one
    on this machine. Raises NotRunningError where there is none, UsageError where there are several.
    """
    if asked:
        if pid_behind(asked) is None:
            raise NotRunningError(f"{asked} does not run on this machine; start it with 'lbctl up CONF --node {asked}'")
        return asked
    running = {node: pid for node in _names() if (pid := pid_behind(node)) is not None}
    here = [node for node, pid in running.items() if _net_namespace(pid) == _net_namespace(None)]
    candidates = here or list(running)
    if not candidates:
        raise NotRunningError("no director runs on this machine; start one with 'lbctl up CONF'")
    if len(candidates) > 1:
        raise UsageError(f"several directors run on this machine ({', '.join(candidates)}); name one with --node")
    return candidates[0]


def runs_here(node: str) -> bool:
    """Does the director of that name run in this network namespace? One in a lab host does not."""
    pid = pid_behind(node)
    return pid is not None and _net_namespace(pid) == _net_namespace(None)


def _names() -> list[str]:
    return sorted(path.stem for path in RUN_DIR.glob("*.sock"))


def pid_behind(node: str) -> int | None:
    """The process that listens on a director's socket; None if nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        path = os.fsencode(socket_path(node))
        if len(path) > _LONGEST_SOCKET_PATH:
            return None
        try:
            probe.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise LbctlError(f"{socket_path(node)}: permission denied; lbctl commands need root") from None
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def _net_namespace(pid: int | None) -> int | None:
    try:
        return os.stat(f"/proc/{pid or 'self'}/ns/net").st_ino  # noqa: PTH116 - follows the magic link
    except FileNotFoundError:
        return None
