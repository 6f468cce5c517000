"""The control socket: a real server and a real client on a real Unix socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lb import rundir
from lb.api import Server
from lb.client import RefusedError, call
from lb.errors import LbctlError, NotRunningError, UsageError


async def echo(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"got": dict(parameters)}


async def refuse(parameters: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    raise UsageError("no such real: there are web/1, web/2")


async def hang(parameters: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    await asyncio.sleep(10)
    return {}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server in a thread of its own, below a run directory of its own."""
    monkeypatch.setattr(rundir, "RUN_DIR", tmp_path)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server("lb1", {"GET /echo": echo, "POST /refuse": refuse, "GET /hang": hang})
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    try:
        yield "lb1"
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_an_order_is_answered(node: str) -> None:
    assert call(node, "GET", "/echo", real="web/1", weight=3) == {"got": {"real": "web/1", "weight": 3}}


def test_the_socket_is_for_root_alone(node: str) -> None:
    assert rundir.socket_path(node).stat().st_mode & 0o777 == 0o600


def test_a_refusal_keeps_its_text_and_exit_status(node: str) -> None:
    with pytest.raises(RefusedError, match="there are web/1, web/2") as refusal:
        call(node, "POST", "/refuse")
    assert refusal.value.exit_status == 2


@pytest.mark.usefixtures("node")
def test_nobody_answers() -> None:
    with pytest.raises(NotRunningError, match="lbctl up CONF --node lb2"):
        call("lb2", "GET", "/echo")


@pytest.mark.usefixtures("node")
def test_a_socket_that_a_dead_process_left() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(rundir.socket_path("lb9")))
    with pytest.raises(NotRunningError):
        call("lb9", "GET", "/echo")
    with pytest.raises(NotRunningError):
        rundir.find_director("lb9")


def test_a_director_that_hangs(node: str) -> None:
    with pytest.raises(LbctlError, match="did not answer within"):
        call(node, "GET", "/hang", 0.2)


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"null", b'"x"'])
def test_noise_is_refused_and_the_server_lives(node: str, body: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rundir.socket_path(node)))
        client.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.sendall(body)
        assert b"HTTP/1.1 400" in client.recv(4096)
    assert call(node, "GET", "/echo") == {"got": {}}


def test_commands_find_the_only_director(node: str) -> None:
    assert rundir.find_director(None) == node
    assert rundir.find_director(node) == node


def test_two_of_one_name_are_refused(node: str, tmp_path: Path) -> None:
    with rundir.lock(node):
        with pytest.raises(LbctlError, match="runs already"), rundir.lock(node):
            pass
        assert (tmp_path / "lb1.lock").exists()
    assert not (tmp_path / "lb1.lock").exists()
    with rundir.lock(node):
        pass
