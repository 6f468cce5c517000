"""The CPU first for a director's own threads: heartbeats, the lease and sync do not wait for other programs. Edge.

A high weight and no real-time class: the kernel's own threads, which packets may need, are never starved by it. The
programs that we start begin with an ordinary priority again.
"""

from __future__ import annotations

import os

NICE = -10
"""Nine shares of the CPU against one of an ordinary process."""


def raise_thread() -> bool:
    """Raise the calling thread's; threads and processes that it starts are ordinary. False: it is not permitted."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    return True
