"""A download and a prober live through every way in which an active director can go."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lb.lab.observe import Traffic, role, run_in, spawn_in, status, wait_until
from tests.netns.cluster import CONF, VIRTUAL, answers, edited, is_settled, lbctl, settle

DEADTIME_MS = 500.0


pytestmark = pytest.mark.usefixtures("demo_lab")


@pytest.fixture(autouse=True)
def _lb1_active() -> None:
    lbctl("lab", "up", str(CONF))
    settle()


def roles() -> dict[str, str]:
    """Who is what."""
    return {node: role(node) for node in ("lb1", "lb2")}


def pid_of(node: str) -> int:
    """The process of a director, from the kernel's answer to who listens on its socket."""
    lines = run_in(node, "ss", "-Hxlp", "src", f"/run/lbctl/{node}.sock")
    return int(lines.split("pid=")[1].split(",")[0])


def kill_process() -> None:
    os.kill(pid_of("lb1"), signal.SIGKILL)


def terminate_process() -> None:
    os.kill(pid_of("lb1"), signal.SIGTERM)


FAULTS: dict[str, Callable[[], object]] = {
    "power cut": lambda: lbctl("lab", "kill", "lb1"),
    "kill -9": kill_process,
    "SIGTERM": terminate_process,
    "lbctl down": lambda: lbctl("down", "--node", "lb1"),
    "lbctl standby": lambda: lbctl("standby", "--node", "lb1"),
    "lbctl takeover": lambda: lbctl("takeover", "--node", "lb2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nobody_loses_a_connection(fault: str) -> None:
    with Traffic(VIRTUAL) as traffic:
        FAULTS[fault]()
        wait_until("lb2 is active", lambda: role("lb2") == "active")
    print(f"{fault}: {traffic.seen}")
    assert traffic.seen.download_ok
    assert traffic.seen.outage_ms <= DEADTIME_MS + 500
    assert VIRTUAL in run_in("lb2", "ip", "-br", "address", "show", "dev", "eth0")


CALLER = """
import pathlib, socket, sys, time
def wait_for(name):
    while not pathlib.Path(sys.argv[1], name).exists():
        time.sleep(0.005)
def ask():
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    return s.recv(4096).split(b"\\r\\n\\r\\n")[1].decode().strip()
print("waiting", flush=True)
wait_for("connect")
s = socket.create_connection((sys.argv[2], 80), timeout=20)
print(ask(), s.getsockname()[1], flush=True)
for name in ("again", "once more"):
    wait_for(name)
    print(ask(), flush=True)
"""


def knows(node: str, port: str) -> bool:
    """Has it an open connection from this port of the client? An earlier one may be remembered as finished."""
    lines = lbctl("list", "--connections", "--node", node).stdout.splitlines()
    return any("ESTABLISHED" in line and f":{port} " in line for line in lines)


def test_what_the_active_opened_last_and_could_not_tell_lives_on(tmp_path: Path) -> None:
    """The old packet path is asked; and the next process of that director tells what it finds there."""
    caller = spawn_in("client", sys.executable, "-c", CALLER, str(tmp_path), VIRTUAL)
    pid = pid_of("lb1")
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "waiting\n"
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "connect").touch()
        real, port = caller.stdout.readline().split()
        wait_until("lb2 is active", lambda: role("lb2") == "active")
        assert not knows("lb2", port)
        os.kill(pid, signal.SIGKILL)
        (tmp_path / "again").touch()
        assert caller.stdout.readline().strip() == real
        assert status("lb2")["packets"]["referred"] > 0

        lbctl("lab", "up", str(CONF))
        wait_until("lb1 has told", lambda: knows("lb2", port))
        lbctl("lab", "kill", "lb1")
        (tmp_path / "once more").touch()
        assert caller.stdout.readline().strip() == real
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # stopped, it would hold up whoever comes next
        caller.kill()
        caller.communicate()


SAME_PORT = """
import pathlib, socket, struct, sys, time
def wait_for(name):
    while not pathlib.Path(sys.argv[1], name).exists():
        time.sleep(0.005)
def opened():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.bind(("", 23456))
    s.settimeout(10)
    s.connect((sys.argv[2], 80))
    return s
def ask(s):
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    return s.recv(4096).split(b"\\r\\n\\r\\n")[1].decode().strip()
s = opened()
before = ask(s)
print("waiting", flush=True)
wait_for("connect")
s.close()
time.sleep(0.05)
print("closed", flush=True)
wait_for("again")
while True:
    s = opened()
    if ask(s) == before:
        break
    s.close()
print("connected", flush=True)
wait_for("use")
print(ask(s) == before, flush=True)
"""


def test_a_connection_on_the_port_of_another_outlives_a_director_that_leaves(tmp_path: Path) -> None:
    """Its heir has seen the one before to its end, at the same real, and asked the director before it; but not now."""
    caller = spawn_in("client", sys.executable, "-c", SAME_PORT, str(tmp_path), VIRTUAL)
    pid = pid_of("lb1")
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "waiting\n"
        (tmp_path / "connect").touch()
        assert caller.stdout.readline() == "closed\n"
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "again").touch()
        assert caller.stdout.readline() == "connected\n"
        wait_until("lb2 is active", lambda: role("lb2") == "active")
        os.kill(pid, signal.SIGCONT)
        wait_until("lb1 is back", lambda: roles() == {"lb1": "standby", "lb2": "active"} and is_settled())
        lbctl("down", "--node", "lb1")
        (tmp_path / "use").touch()
        assert caller.stdout.readline() == "True\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        caller.kill()
        caller.communicate()


LISTENER = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
while True:
    frame = s.recv(2000)
    if frame[28:32] == socket.inet_aton(sys.argv[1]):
        print(frame[6:12].hex(":"), flush=True)
"""


def test_who_wakes_and_was_replaced_tells_what_it_opened_and_nothing_else(tmp_path: Path) -> None:
    """It must not announce the address: for a moment clients would go there, and the active would lose its lease."""
    caller = spawn_in("client", sys.executable, "-c", CALLER, str(tmp_path), VIRTUAL)
    listener = spawn_in("client", sys.executable, "-c", LISTENER, VIRTUAL)
    pid = pid_of("lb1")
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "waiting\n"
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "connect").touch()
        real, port = caller.stdout.readline().split()
        wait_until("lb2 is active", lambda: role("lb2") == "active")
        os.kill(pid, signal.SIGCONT)
        wait_until("lb1 has told", lambda: knows("lb2", port))
        wait_until("the pair is whole", is_settled)
        for name in ("again", "once more"):
            (tmp_path / name).touch()
            assert caller.stdout.readline().strip() == real
        listener.kill()
        assert listener.stdout is not None
        heard = listener.stdout.read().split()
        assert mac_of("lb2") in heard
        assert mac_of("lb1") not in heard[heard.index(mac_of("lb2")) :]
    finally:
        os.kill(pid, signal.SIGCONT)
        for process in (caller, listener):
            process.kill()
            process.wait()


LATE_CALLER = """
import pathlib, socket, sys, time
def ask(s):
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    return s.recv(4096)
print("waiting", flush=True)
opened = []
while True:
    try:
        s = socket.create_connection((sys.argv[2], 80), timeout=0.3)
        opened.append((s, ask(s)))
    except OSError:
        break
    time.sleep(0.01)
print(len(opened), flush=True)
while not pathlib.Path(sys.argv[1], "again").exists():
    time.sleep(0.01)
for s, answer in opened:
    s.settimeout(10)
print(sum(ask(s).split(b"\\r\\n\\r\\n")[1] == answer.split(b"\\r\\n\\r\\n")[1] for s, answer in opened), flush=True)
"""


def test_what_late_clients_open_at_a_director_that_leaves_lives_on(tmp_path: Path) -> None:
    """This one does not hear of the handover at all: it sends to lb1 as long as that forwards anything."""
    run_in("client", "ip", "neigh", "replace", VIRTUAL, "lladdr", mac_of("lb1"), "dev", "eth0", "nud", "permanent")
    caller = spawn_in("client", sys.executable, "-c", LATE_CALLER, str(tmp_path), VIRTUAL)
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "waiting\n"
        lbctl("down", "--node", "lb1")
        opened = int(caller.stdout.readline())
        run_in("client", "ip", "neigh", "del", VIRTUAL, "dev", "eth0")
        (tmp_path / "again").touch()
        assert int(caller.stdout.readline()) == opened > 0
    finally:
        caller.kill()
        caller.wait()


def mac_of(node: str) -> str:
    """Of its interface."""
    return run_in(node, "ip", "-br", "link", "show", "dev", "eth0").split()[2]


def test_when_one_of_two_actives_leaves_clients_find_the_other() -> None:
    """The directors cannot hear each other, clients reach both: whoever announced last is where they go."""
    addresses = {"lb1": "192.168.1.103", "lb2": "192.168.1.104"}
    for node, peer in (("lb1", "lb2"), ("lb2", "lb1")):
        run_in(node, "ip", "route", "add", "blackhole", addresses[peer])
    try:
        wait_until("both are active", lambda: roles() == {"lb1": "active", "lb2": "active"})
        for node, peer in (("lb1", "lb2"), ("lb2", "lb1")):
            wait_until("each sees the other", lambda: any(mac_of(peer) in w for w in status(node)["warnings"]))  # noqa: B023
        assert sum(answers(4).values()) == 4, "so the client has learnt where to go"
        lbctl("down", "--node", "lb2")
        wait_until(
            "the client goes to lb1", lambda: mac_of("lb1") in run_in("client", "ip", "neigh", "show", "to", VIRTUAL)
        )
        assert set(answers(4)) == {"web1", "web2"}
    finally:
        for node, peer in (("lb1", "lb2"), ("lb2", "lb1")):
            run_in(node, "ip", "route", "del", "blackhole", addresses[peer])
    lbctl("lab", "up", str(CONF))
    wait_until("the pair is whole", is_settled)


def test_a_director_that_returns_stays_standby() -> None:
    lbctl("lab", "kill", "lb1")
    wait_until("lb2 is active", lambda: role("lb2") == "active")
    lbctl("lab", "start", "lb1")
    wait_until("the pair is whole", is_settled)
    assert roles() == {"lb1": "standby", "lb2": "active"}
    assert VIRTUAL not in run_in("lb1", "ip", "-br", "address", "show", "dev", "eth0")


def test_a_restarted_process_adopts_what_it_left() -> None:
    """Both processes die at once: packets flow on without any, and the next ones know every connection."""
    pids = [pid_of(node) for node in ("lb1", "lb2")]
    with Traffic(VIRTUAL) as traffic:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert "ESTABLISHED" in lbctl("list", "--connections", "--node", "lb1").stdout
        lbctl("lab", "up", str(CONF))
        wait_until("the pair is whole", is_settled)
    assert traffic.seen.download_ok
    assert set(answers(4)) == {"web1", "web2"}


def test_orders_are_refused_when_no_peer_is_able() -> None:
    lbctl("lab", "kill", "lb2")
    wait_until("lb1 knows", lambda: status("lb1")["peers"][0]["state"] != "up")
    done = lbctl("standby", "--node", "lb1", exit_status=1)
    assert "lb2" in done.stderr
    assert role("lb1") == "active"


def test_programs_go_with_the_role(tmp_path: Path) -> None:
    program, said = tmp_path / "program", tmp_path / "said"
    program.write_text(f'#!/bin/sh\necho "$LBCTL_NODE $*" >> {said}\n')
    program.chmod(0o755)
    resources = f'resources = ["{program} one", "{program} two"]'
    conf = edited(tmp_path, ("[ha]", f'[ha]\n{resources}\nnotify = ["{program}"]\nfence = "/bin/false"'))
    try:
        for node in ("lb1", "lb2"):
            lbctl("reload", str(conf), "--node", node)
        lbctl("standby", "--node", "lb1")

        def lines() -> list[str]:
            return said.read_text().splitlines() if said.exists() else []

        wait_until("both have said what they have to", lambda: len(lines()) == 6)
        assert [line for line in lines() if line.startswith("lb2")][-2:] == ["lb2 one start", "lb2 two start"]
        assert sorted(lines()[:6]) == sorted(
            [*("lb1 standby", "lb1 two stop", "lb1 one stop"), *("lb2 active", "lb2 one start", "lb2 two start")]
        )
    finally:
        for node in ("lb1", "lb2"):
            lbctl("reload", str(CONF), "--node", node)


def test_an_order_given_to_one_director_counts_on_both() -> None:
    def health_of_web1(node: str) -> str:
        return str(status(node)["virtuals"][0]["reals"][0]["health"])

    lbctl("drain", "web/192.168.1.101", "--node", "lb1")
    wait_until("it is drained on the other, too", lambda: health_of_web1("lb2") == "drained")
    lbctl("enable", "web/192.168.1.101", "--node", "lb2")
    wait_until("it is enabled on the first, too", lambda: health_of_web1("lb1") == "up")
