"""`lbctl doctor` on hosts made for it: a director and a real, well and then broken one thing at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lb import bpf, namespaces, rundir
from lb.doctor import DIRECTOR, MACHINE, REAL, examine_machine
from lb.netif import names
from tests.servers import open_files

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf" / "cluster.toml"
VIRTUAL = "192.168.1.105"


class Host:
    """A network namespace with an `eth0` whose other end lies in it too."""

    def __init__(self, name: str, address: str, keys: Path) -> None:
        self.name = name
        self.environment = {**os.environ, "LBCTL_AUTHKEYS": str(keys), "PYTHONPATH": str(ROOT)}
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "cable")
        self.run("ip", "link", "set", "cable", "up")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")

    def run(self, *command: str, status: int | None = 0) -> str:
        """Output of a command in this host."""
        with namespaces.inside(self.name, self.name):
            done = subprocess.run(
                command, capture_output=True, text=True, env=self.environment, cwd=ROOT, check=False, timeout=60
            )
        assert status in (None, done.returncode), f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def lbctl(self, *words: str, status: int | None = 0) -> str:
        """Output of an lbctl command in this host."""
        return self.run(sys.executable, "-m", "lb", *words, status=status)

    def doctor(self, *words: str, conf: Path = CONF, status: int = 0) -> dict[str, list[tuple[str, str]]]:
        """Look → its (level, seen)."""
        document: dict[str, Any] = json.loads(self.lbctl("doctor", str(conf), "--json", *words, status=status))
        assert document["ok"] is (status == 0)
        found: dict[str, list[tuple[str, str]]] = {}
        for finding in document["findings"]:
            assert bool(finding["mend"]) == (finding["level"] != "ok")
            found.setdefault(finding["look"], []).append((finding["level"], finding["seen"]))
        return found


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A director and a real of the demo cluster."""
    keys = tmp_path / "authkeys"
    with ExitStack() as undo:
        made = []
        for role, address in (("lb1", "192.168.1.103"), ("web1", "192.168.1.101")):
            name = f"lbctl-doctor-{role}-{os.getpid()}"
            names.create(name)
            undo.callback(names.remove, name)
            made.append(Host(name, address, keys))
        keys.write_text("1 sha256 " + "0123456789abcdef" * 4 + "\n")
        keys.chmod(0o600)
        yield made[0], made[1]


def levels(found: dict[str, list[tuple[str, str]]], look: str) -> set[str]:
    return {level for level, _ in found[look]}


def seen(found: dict[str, list[tuple[str, str]]], look: str, level: str) -> Sequence[str]:
    return [text for found_level, text in found[look] if found_level == level]


def test_this_machine_can_run_a_director() -> None:
    """The kernel takes all that is tried, and nothing of it stays."""
    interfaces = Path("/proc/self/net/dev").read_text().count(":")
    before = open_files()
    findings = list(examine_machine())
    assert {finding.look for finding in findings} == {name for name, _ in MACHINE}
    assert [finding for finding in findings if finding.level == "fail"] == []
    assert [finding.seen for finding in findings if finding.look == "bpf"] == [
        "XDP program, LRU hash, per-CPU array, mapped array, ring buffer, XDP link"
    ]
    assert not open_files() - before
    assert Path("/proc/self/net/dev").read_text().count(":") == interfaces


def test_a_director(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    director, _ = hosts
    found = director.doctor()
    assert set(found) == {name for name, _ in (*MACHINE, *DIRECTOR)}
    for look in ("interface", "address", "mtu", "segment", "virtual addresses", "heartbeat port", "authkeys"):
        assert levels(found, look) == {"ok"}, found[look]
    assert found["driver"][0][1].startswith("veth: native")
    assert levels(found, "fallback") == {"warn"}, "no sorry server listens yet"

    (tmp_path / "authkeys").chmod(0o644)
    director.run("ip", "address", "add", f"{VIRTUAL}/32", "dev", "lo")
    director.run("ip", "link", "set", "eth0", "mtu", "9000")
    broken = director.doctor(status=1)
    assert "0644" in seen(broken, "authkeys", "fail")[0]
    assert seen(broken, "virtual addresses", "fail")[0].startswith(f"virtual {VIRTUAL} is on lo")
    assert levels(broken, "mtu") == {"ok" if bpf.takes_jumbo() else "warn"}

    director.run("ip", "link", "set", "eth0", "down")
    assert seen(director.doctor(status=1), "interface", "fail") == ["eth0 is down"]
    director.run("ip", "link", "delete", "eth0")
    gone = director.doctor("--node", "lb1", status=1)
    assert seen(gone, "interface", "fail")[0].startswith("there is no interface 'eth0' here")
    assert seen(gone, "address", "fail") == ["lb1's address 192.168.1.103 is not on this host"]


def holding(made: str, address: str, then: str = "pass") -> ExitStack:
    """A process that holds a socket until the stack is left; it holds it when this returns."""
    program = f"import socket; s = {made}; s.bind({address}); {then}; print('held', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack = ExitStack()
    stack.callback(process.communicate, "\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return stack


def test_a_director_whose_port_is_taken(hosts: tuple[Host, Host]) -> None:
    director, _ = hosts
    with namespaces.inside(director.name, director.name):
        taker = holding("socket.socket(type=socket.SOCK_DGRAM)", "('', 694)")
    with taker:
        found = director.doctor(status=1)
    assert seen(found, "heartbeat port", "fail") == ["UDP port 694 is taken by another program"]
    assert seen(found, "heartbeat port", "ok") == ["TCP port 694 is free"]


def test_a_director_of_the_same_name_elsewhere_is_not_this_one(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """A lab may run another lb1 on this machine."""
    director, _ = hosts
    name = f"doctor-{os.getpid()}"
    conf = tmp_path / "cluster.toml"
    conf.write_text(CONF.read_text().replace('"lb1"', f'"{name}"'))
    path = rundir.socket_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with holding("socket.socket(socket.AF_UNIX)", repr(str(path)), then="s.listen()"):
            found = director.doctor(conf=conf)
    finally:
        path.unlink(missing_ok=True)
    assert seen(found, "heartbeat port", "ok") == ["UDP port 694 is free", "TCP port 694 is free"]


def test_a_real_before_and_after_it_is_prepared(hosts: tuple[Host, Host]) -> None:
    _, real = hosts
    before = real.doctor(status=1)
    assert set(before) == {name for name, _ in REAL}
    assert any(text.startswith(f"{VIRTUAL}/32 on lo: missing") for text in seen(before, "real", "fail"))
    real.lbctl("realserver", "up", str(CONF))
    try:
        after = real.doctor()
        assert levels(after, "real") == {"ok"}
        assert levels(after, "service") == {"warn"}, "nobody listens on the virtual's port yet"
    finally:
        real.lbctl("realserver", "down", str(CONF))


def test_a_host_that_is_neither(hosts: tuple[Host, Host]) -> None:
    director, _ = hosts
    director.run("ip", "address", "flush", "dev", "eth0")
    director.run("ip", "address", "add", "192.168.1.9/24", "dev", "eth0")
    assert director.lbctl("doctor", str(CONF), "--json", status=2) == ""


def test_for_people_there_is_a_line_a_finding_and_the_mending_below(hosts: tuple[Host, Host]) -> None:
    _, real = hosts
    lines = real.lbctl("doctor", str(CONF), status=1).splitlines()
    failing = next(number for number, line in enumerate(lines) if line.startswith("fail  real"))
    assert lines[failing + 1].strip() == f"→ lbctl realserver up {CONF}"
