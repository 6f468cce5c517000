"""What gives orders to a running director: the other end of `lb.api`."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from lb.errors import LbctlError, NotRunningError
from lb.rundir import pid_behind, socket_path


class _UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, node: str, timeout_s: float) -> None:
        super().__init__(node, timeout=timeout_s)
        self._node = node

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(socket_path(self._node)))


class RefusedError(LbctlError):
    """A director's refusal, with the exit status it named."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def call(node: str, method: str, path: str, timeout_s: float = 30.0, /, **parameters: Any) -> Any:
    """Give an order to a running director and return its answer.

    Raises NotRunningError if nobody answers, RefusedError if it refuses.
    """
    connection = _UnixConnection(node, timeout_s)
    try:
        body = json.dumps(parameters)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (FileNotFoundError, ConnectionError, http.client.HTTPException) as error:
        message = f"{node} does not answer ({error}); start it with 'lbctl up CONF --node {node}'"
        raise NotRunningError(message) from None
    except TimeoutError:
        raise LbctlError(
            f"{node} did not answer within {timeout_s:g} s; its log says what it is busy with. If it hangs, "
            f"'kill -9 {pid_behind(node)}' ends it: packets go on, and 'lbctl up CONF --node {node}' takes them up"
        ) from None
    finally:
        connection.close()
    if response.status >= 400:
        raise RefusedError(answer["error"], answer["exit_status"])
    return answer
