"""The control socket: HTTP and JSON over `/run/lbctl/NODE.sock` (mode 0600, so root only).

`curl --unix-socket /run/lbctl/lb1.sock http://lb1/status` works too. A refused order answers with the error's text and
the exit status that the command should end with.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

from lb.errors import LbctlError
from lb.rundir import socket_path

log = structlog.get_logger(__name__)

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""An order's parameters in, its answer out. Raises LbctlError to refuse."""

_REFUSED = 409
_PATIENCE_S = 1.0
"""How long orders under way may still take when the director ends."""


class Server:
    """Serves a table of orders: `METHOD /path` → handler."""

    def __init__(self, node: str, routes: Mapping[str, Handler]) -> None:
        self._path = socket_path(node)
        application = web.Application()
        for route, handler in routes.items():
            method, _, path = route.partition(" ")
            application.router.add_route(method, path, _respond(handler))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_PATIENCE_S)

    async def start(self) -> None:
        """Listen; the socket is born unreachable for others."""
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)


def _respond(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(request: web.Request) -> web.Response:
        try:
            parameters = await request.json() if request.can_read_body else {}
            if not isinstance(parameters, dict):
                raise ValueError("an object of parameters is expected")
        except ValueError as error:
            return web.json_response({"error": f"not an order: {error}", "exit_status": 2}, status=400)
        try:
            return web.json_response(await handler(parameters))
        except LbctlError as error:
            return web.json_response({"error": str(error), "exit_status": error.exit_status}, status=_REFUSED)
        except Exception as error:
            log.exception("an order failed unexpectedly", order=request.path)
            text = f"{request.path[1:]} failed, {type(error).__name__}: {error}; the director's log shows where"
            return web.json_response({"error": text, "exit_status": LbctlError.exit_status}, status=500)

    return respond
