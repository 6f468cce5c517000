"""A process of its own that sends a heartbeat in time where the director's loop is late. Edge.

A loop may be held up by anything: a system call in which the kernel does the network's work, a long step of Python,
other programs on a busy machine. So whenever the loop sends a heartbeat it leaves the next ones here, signed and ready.
Those that it makes later take their place; one whose time comes without that is sent from here, over the same sockets.
At a fast keepalive the loop sends only some of them, and those between are always sent from here.

What a heartbeat attests is still that the control plane lives: nobody here can make one. There are only as many as
come due in the stall that counts for nothing anyway, or in a tenth of a second (`ha.heartbeat.Heartbeats.spares`), each
is worthless a keepalive after its time, and when the director's process ends, so does this one. A director that hangs
falls silent that much later, and its lease (bpf/lease.h), which only its loop renews, runs out as ever.

The process knows nothing of lbctl and imports nothing of it: it starts in some ten milliseconds, and has a real-time
priority where that is permitted.
"""

from __future__ import annotations

import contextlib
import ctypes
import marshal
import os
import select
import socket
import subprocess
import sys
import time
from typing import Any

Datagram = tuple[int, Any, bytes]
"""Which of the sockets given along, an address of its family, what to send."""

Spare = tuple[float, float, bool, list[Datagram]]
"""When it is due and when it is worthless, seconds of `now`; is the loop late then? what is sent."""

_MAX_BYTES = 1 << 18
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_MAX_SOCKETS = 64


def now() -> float:
    """Monotonic seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Deputy:
    """The director's side: the process, from the making of this until `close`."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-I", "-S", __file__, str(theirs.fileno())]
            try:
                # A session of its own: a Ctrl-C is for the director, which then hands over.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            except BaseException:
                self._control.close()
                raise
        self._control.setblocking(False)
        self._handed: list[socket.socket] = []

    def entrust(self, spares: list[Spare], sockets: list[socket.socket]) -> int:
        """These and no others from now on. Returns how many were sent meanwhile for which the loop was late.

        Raises OSError if nobody is there.
        """
        fresh = [] if sockets == self._handed else sockets
        with contextlib.suppress(BlockingIOError):  # it does not come to read: what it has runs out
            socket.send_fds(self._control, [marshal.dumps(spares)], [sock.fileno() for sock in fresh])
            self._handed = list(sockets)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while self._control.recv(1):
                count += 1
        return count

    def close(self) -> None:
        """Nothing is sent any more."""
        self._control.close()
        self._process.kill()
        self._process.wait()


class _Spares:
    """The process's side: what it was given last."""

    def __init__(self) -> None:
        self._spares: list[Spare] = []
        self._sockets: list[socket.socket] = []

    def replace(self, data: bytes, fds: list[int]) -> None:
        """Those and no others from now on; over the same sockets if there are none with them."""
        self._spares = marshal.loads(data)
        if fds:
            for sock in self._sockets:
                sock.close()
            self._sockets = [socket.socket(fileno=fd) for fd in fds]

    def wait_s(self) -> float | None:
        """How long until one is due; None: there is none."""
        return max(self._spares[0][0] - now(), 0.0) if self._spares else None

    def send(self) -> bool:
        """The one that is due, unless we are late ourselves. Was one sent for which the loop is late?"""
        _, worthless_s, late, datagrams = self._spares.pop(0)
        if now() >= worthless_s:
            return False
        for at, address, data in datagrams:
            with contextlib.suppress(OSError):
                self._sockets[at].sendto(data, socket.MSG_DONTWAIT, address)
        return late


def _serve(control: socket.socket) -> None:
    """Until the director's end is closed."""
    spares = _Spares()
    while True:
        readable, _, _ = select.select([control], [], [], spares.wait_s())
        if readable:
            data, fds, _, _ = socket.recv_fds(control, _MAX_BYTES, _MAX_SOCKETS)
            if not data:
                return
            spares.replace(data, list(fds))
        elif spares.send():
            with contextlib.suppress(BlockingIOError):
                control.send(b"\1", socket.MSG_DONTWAIT)


def main() -> None:
    """The process."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE)  # what was swapped out is late; no matter if not permitted
    with socket.socket(fileno=int(sys.argv[1])) as control, contextlib.suppress(OSError):
        _serve(control)


if __name__ == "__main__":
    main()
