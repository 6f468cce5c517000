"""The process of a director: one event loop, signals, the control socket, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
from concurrent.futures import ThreadPoolExecutor

import structlog
import uvloop

from lb import rundir
from lb.api import Server
from lb.director import Director
from lb.errors import LbctlError
from lb.model import Cluster
from lb.orders import Orders, routes
from lb.priority import raise_thread

log = structlog.get_logger(__name__)

GARBAGE_THRESHOLD = 50_000
"""New objects after which garbage is looked for. Python's 700 costs a third of the checks of ten thousand reals, and
heartbeats pauses of 120 ms; what a start made stays, and is not looked through again."""

THREADS = 8
"""For what blocks: compiling, sweeping, reading and writing tables, files."""


def run(cluster: Cluster, node: str) -> None:
    """Be the director `node` until SIGTERM, Ctrl-C or `lbctl down`. Raises LbctlError."""
    director = Director(cluster, node)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each check under way has a socket
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    with rundir.lock(node):
        uvloop.run(_run(director))


async def _run(director: Director) -> None:
    name = director.node.name
    loop = asyncio.get_running_loop()
    if not raise_thread():
        log.warning("no higher priority than others': heartbeats may be late", needs="CAP_SYS_NICE")
    loop.set_default_executor(ThreadPoolExecutor(THREADS, initializer=raise_thread))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, director.stopping.set)
    server = Server(name, routes(director))
    await director.start()
    gc.collect()
    gc.freeze()
    try:
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(_reload(director)))
        await server.start()
        log.info("director is running", node=name, socket=str(rundir.socket_path(name)))
        await _until_stopped(director)
    finally:
        log.info("stopping", node=name)
        await director.stop()
        await server.close()
        log.info("stopped", node=name)


async def _until_stopped(director: Director) -> None:
    stopping = asyncio.create_task(director.stopping.wait())
    failed = asyncio.create_task(director.failed())
    await asyncio.wait((stopping, failed), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if failed.done():
        raise LbctlError(f"a part of the director died: {failed.result()!r}") from failed.result()
    failed.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await failed


async def _reload(director: Director) -> None:
    try:
        await Orders(director).reload({})
    except LbctlError as error:
        log.error("the configuration was not reloaded; the old one stays", error=str(error))
