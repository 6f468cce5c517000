"""The lab without directors' lbctl: hosts, services, power cuts, and that nothing is ever left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb import namespaces
from tests.netns.conftest import ip, wait_for

CONF = """
[cluster]
name = "small"
interface = "eth0"
[[node]]
name = "lb1"
address = "10.1.0.2"
[[node]]
name = "lb2"
address = "10.1.0.3"
interface = "ens7"
[ha]
ping = ["10.1.0.1"]
[[virtual]]
name = "web"
address = "203.0.113.7"
port = 80
fallback = "10.1.0.66"
[virtual.check]
type = "negotiate"
request = "/a%20b/up?x=1"
receive = '^O[Kk] \\d\\d$'
status = [302]
[[virtual.real]]
address = "10.1.0.11"
name = "web1"
[[virtual.real]]
address = "10.1.0.12"
name = "web2"
[[virtual]]
name = "tls"
address = "203.0.113.7"
port = 443
check = { type = "negotiate", service = "https" }
real = [{ address = "10.1.0.11" }]
[[virtual]]
name = "dns"
address = "203.0.113.8"
port = 53
protocol = "udp"
check = { type = "on" }
real = [{ address = "10.1.0.12" }]
"""
LBCTL = [sys.executable, "-m", "lb"]
ASK_DNS = """
import socket, sys
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(5)
asker.sendto(b"who", (sys.argv[1], 53))
answer, (source, _) = asker.recvfrom(100)
print(answer.decode().strip(), "from", source)
"""


def lab(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """`lbctl lab …` to its end, which must be with this exit status."""
    command = [*LBCTL, "lab", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == status, f"lbctl lab {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def curl(url: str, status: int = 0, seconds: float = 5) -> str:
    return lab("exec", "client", "--", "curl", "-sk", "--max-time", str(seconds), url, status=status).stdout


def hosts(conf: Path) -> dict[str, dict[str, Any]]:
    (document,) = json.loads(lab("status", str(conf), "--json").stdout)["labs"]
    return {host["name"]: host for host in document["hosts"]}


def leftovers() -> list[str]:
    """Everything of a lab that can be seen from outside of lbctl."""
    found = ip("netns", "list").splitlines()
    found += [str(path) for root in ("/run/lbctl", "/sys/fs/bpf/lbctl") for path in Path(root).glob("**/*")]
    own = Path("/proc/self/ns/mnt").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = (process / "ns/mnt").readlink() == own
            if ours and (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink():
                found.append(f"{process.name} {(process / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conf") / "cluster.toml"
    path.write_text(CONF)
    return path


@pytest.fixture(scope="module")
def raised(conf: Path) -> Iterator[Path]:
    """The lab, for tests that leave it as it was."""
    lab("up", str(conf), "--hosts-only")
    yield conf
    lab("down", str(conf))
    assert leftovers() == []


def clear() -> None:
    """Take down what is up, if anything is."""
    if leftovers():
        lab("down")
    assert leftovers() == []


@pytest.fixture
def nothing(conf: Path) -> Iterator[Path]:
    """No lab before and none after, for tests that raise their own."""
    clear()
    yield conf
    clear()


# ------------------------------------------------------------------- what is there


def test_every_host_is_there(raised: Path) -> None:
    found = hosts(raised)
    assert {name: (host["kind"], host["addresses"]) for name, host in found.items()} == {
        "client": ("client", ["10.1.0.254", "10.1.0.1"]),
        "lb1": ("director", ["10.1.0.2"]),
        "lb2": ("director", ["10.1.0.3"]),
        "web1": ("real", ["10.1.0.11"]),
        "web2": ("real", ["10.1.0.12"]),
        "web-fallback": ("real", ["10.1.0.66"]),
    }
    assert {host["state"] for host in found.values()} == {"up"}
    assert {process["service"] for process in found["web2"]["processes"]} == {"nginx", "udp-echo"}
    assert found["lb1"]["processes"] == []
    assert "UP" in ip("-n", "lbctl-lb2", "link", "show", "ens7")


def test_pages(raised: Path) -> None:
    assert raised.exists()
    assert curl("http://10.1.0.11/") == "web1\n"
    assert curl("https://10.1.0.11/") == "web1\n"
    assert curl("http://10.1.0.66/") == "web-fallback\n"
    page = lab("exec", "client", "--", "curl", "-si", "http://10.1.0.12/a%20b/up?x=1").stdout
    assert page.startswith("HTTP/1.1 302")
    body = page.replace("\r", "").split("\n\n", 1)[1]
    assert body[:2].upper() == "OK"


def test_the_download_is_the_same_everywhere(raised: Path) -> None:
    assert raised.exists()
    expected = hashlib.sha256(hashlib.shake_128(b"").digest(32 << 20)).hexdigest()
    for address in ("10.1.0.11", "10.1.0.12"):
        command = f"curl -s http://{address}/download | sha256sum"
        assert lab("exec", "client", "--", "sh", "-c", command).stdout.split()[0] == expected


def test_udp_answers_from_the_address_that_was_asked(raised: Path) -> None:
    """Sent to the virtual address with the real as next hop: as a director forwards it."""
    assert raised.exists()
    ask = ["exec", "client", "--", sys.executable, "-c", ASK_DNS]
    assert lab(*ask, "10.1.0.12").stdout == "web2 from 10.1.0.12\n"
    ip("-n", "lbctl-client", "route", "add", "203.0.113.8/32", "via", "10.1.0.12")
    try:
        assert lab(*ask, "203.0.113.8").stdout == "web2 from 203.0.113.8\n"
    finally:
        ip("-n", "lbctl-client", "route", "delete", "203.0.113.8/32")


def test_reals_are_prepared(raised: Path) -> None:
    for host in ("web1", "web2", "web-fallback"):
        lab("exec", host, "--", *LBCTL, "realserver", "status", str(raised))
    lab("exec", "client", "--", *LBCTL, "realserver", "status", str(raised), status=2)


def test_the_switch_runs_a_program_towards_directors(raised: Path) -> None:
    """Without it, frames that a director sends with XDP_TX would vanish."""
    assert raised.exists()
    ports = json.loads(ip("-n", "lbctl-switch-small", "-j", "link", "show", "master", "switch"))
    assert {port["ifname"] for port in ports} == {"client", "lb1", "lb2", "web1", "web2", "web-fallback"}
    assert {port["ifname"] for port in ports if "xdp" in port} == {"lb1", "lb2"}


def test_a_second_up_says_that_it_is_up(raised: Path) -> None:
    assert "up already" in lab("up", str(raised), "--hosts-only").stdout


def test_exec_is_the_command(raised: Path) -> None:
    assert raised.exists()
    assert lab("exec", "web1", "--", "hostname").stdout == "web1\n"
    assert lab("exec", "web1", "--", "sh", "-c", "exit 7", status=7).stdout == ""
    assert "no-such-command" in lab("exec", "web1", "--", "no-such-command", status=127).stderr
    assert "web9" in lab("exec", "web9", "--", "true", status=1).stderr
    assert lab("exec", "lb1", "--", "sh", "-c", "echo $LBCTL_NODE; cat $LBCTL_AUTHKEYS").stdout.startswith("lb1\n")
    assert socket.gethostname() != "web1"


def test_nginx_stops_and_starts(raised: Path) -> None:
    assert raised.exists()
    assert lab("nginx", "web1", "stop").stdout == "nginx on web1 is stopped\n"
    assert lab("nginx", "web1", "stop").stdout == "nginx on web1 is stopped already\n"
    curl("http://10.1.0.11/", status=7)
    assert lab("nginx", "web1", "start").stdout == "nginx on web1 runs\n"
    assert lab("nginx", "web1", "start").stdout == "nginx on web1 runs already\n"
    assert curl("http://10.1.0.11/") == "web1\n"
    assert "has no web server" in lab("nginx", "client", "stop", status=1).stderr


# ------------------------------------------------------------------- power cuts


def test_a_power_cut_is_silent_and_a_start_brings_the_host_back(raised: Path) -> None:
    with namespaces.inside("lbctl-client", "client"):
        connection = socket.create_connection(("10.1.0.11", 80), timeout=5)
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0800))
        heard.bind(("eth0", 0x0800))
    with connection, heard:
        lab("kill", "web1")
        assert frames_from(heard, "10.1.0.11") == [], "a FIN or a RST escaped"
    assert lab("kill", "web1").stdout == "web1 was off already\n"
    assert hosts(raised)["web1"] | {"state": "dead", "processes": []} == hosts(raised)["web1"]
    assert "lbctl lab start web1" in lab("exec", "web1", "--", "true", status=1).stderr
    assert not [line for line in leftovers() if "realserver-lbctl-web1" in line]
    curl("http://10.1.0.11/", status=28, seconds=0.5)

    assert lab("start", "web1").stdout == "web1 is on\n"
    assert curl("http://10.1.0.11/") == "web1\n"
    lab("exec", "web1", "--", *LBCTL, "realserver", "status", str(raised))
    assert lab("start", "web1").stdout == "web1 is on already\n"


def frames_from(heard: socket.socket, address: str) -> list[bytes]:
    found: list[bytes] = []
    while True:
        try:
            frame = heard.recv(2000)
        except BlockingIOError:
            return found
        if frame[26:30] == socket.inet_aton(address):
            found.append(frame)


def test_a_power_cut_forgets_what_a_director_has_in_memory(raised: Path) -> None:
    pins = Path("/sys/fs/bpf/lbctl/lb1/maps")
    pins.mkdir(parents=True)
    files = [Path("/run/lbctl") / name for name in ("lb1.sock", "lb1.lock", "lb1.state.json", "lb10.sock")]
    for file in files:
        file.touch()
    try:
        lab("kill", "lb1")
        assert [path.exists() for path in (pins.parent, *files)] == [False, False, False, False, True]
    finally:
        files[-1].unlink(missing_ok=True)
        lab("start", "lb1")
    assert hosts(raised)["lb1"]["state"] == "up"


def test_up_raises_what_is_missing(raised: Path) -> None:
    lab("kill", "web2")
    lab("nginx", "web1", "stop")
    again = lab("up", str(raised), "--hosts-only", "--json")
    assert json.loads(again.stdout)["started"] == ["web1", "web2"]
    assert curl("http://10.1.0.12/") + curl("http://10.1.0.11/") == "web2\nweb1\n"


# ------------------------------------------------------------------- leaving nothing


def test_down_takes_everything_and_twice_is_once(nothing: Path) -> None:
    lab("up", str(nothing), "--hosts-only")
    stray = subprocess.Popen([*LBCTL, "lab", "exec", "web1", "--", "sleep", "1000"], start_new_session=True)
    try:
        wait_for("the stray process", lambda: any("sleep" in line for line in leftovers()))
        assert lab("down", str(nothing)).stdout == "the lab of small is down\n"
        assert stray.wait(5) == -signal.SIGKILL
    finally:
        stray.kill()
    assert leftovers() == []
    assert lab("down", str(nothing)).stdout == "no lab of small is up\n"
    assert "lbctl lab up" in lab("status", str(nothing), status=3).stderr
    assert "lbctl lab up" in lab("exec", "client", "--", "true", status=3).stderr


@pytest.mark.parametrize("line", range(0, 10, 2))
def test_after_a_crash_in_the_middle_of_up(nothing: Path, line: int) -> None:
    """`up` is killed as soon as it has told so many lines of its progress; then `down` leaves nothing."""
    crash_up(nothing, line)
    lab("down", str(nothing))
    assert leftovers() == []


@pytest.mark.parametrize("line", range(1, 10, 3))
def test_up_goes_on_after_a_crash(nothing: Path, line: int) -> None:
    crash_up(nothing, line)
    lab("up", str(nothing), "--hosts-only")
    assert curl("http://10.1.0.11/") == "web1\n"
    assert {host["state"] for host in hosts(nothing).values()} == {"up"}


def test_up_goes_on_after_a_crash_within_the_switch(nothing: Path) -> None:
    """What `up` leaves if it dies while the very first namespace is being made."""
    crash_up(nothing, 1)
    subprocess.run(["umount", "/run/netns/lbctl-switch-small"], check=True)
    Path("/run/lbctl/lab/small/switch").unlink()
    lab("up", str(nothing), "--hosts-only")
    assert curl("http://10.1.0.11/") == "web1\n"


def test_down_from_inside_the_lab(nothing: Path) -> None:
    lab("up", str(nothing), "--hosts-only")
    assert lab("exec", "client", "--", *LBCTL, "lab", "down").stdout == "the lab of small is down\n"


def crash_up(conf: Path, line: int) -> None:
    command = [*LBCTL, "lab", "up", str(conf), "--hosts-only"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr
        for _ in range(line):
            assert process.stderr.readline(), "it ended before that line"
        process.kill()


def test_down_when_the_files_are_gone_or_broken(nothing: Path, tmp_path: Path) -> None:
    conf = tmp_path / "cluster.toml"
    conf.write_text(nothing.read_text())
    lab("up", str(conf), "--hosts-only")
    conf.write_text("this is no TOML")
    assert lab("down", str(conf)).stdout == "the lab of small is down\n"
    assert leftovers() == []


def with_nginx(directory: Path, script: str) -> dict[str, str]:
    """The environment in which this shell script, put into a directory of its own, is nginx."""
    directory.mkdir()
    program = directory / "nginx"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_an_interrupted_up_takes_down_what_it_raised(nothing: Path, tmp_path: Path) -> None:
    starting = tmp_path / "starting"
    with subprocess.Popen(
        [*LBCTL, "lab", "up", str(nothing), "--hosts-only"],
        env=with_nginx(tmp_path / "bin", f"echo >{starting}; exec sleep 30"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Who runs the tests in the background may have told them to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        wait_for("nginx is asked to start", starting.exists)
        assert leftovers() != []
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 1
    assert leftovers() == []


def test_a_host_that_cannot_start_takes_everything_down(nothing: Path, tmp_path: Path) -> None:
    env = with_nginx(tmp_path / "bin", "echo 'out of luck' >&2; exit 1")
    command = [*LBCTL, "lab", "up", str(nothing), "--hosts-only"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nginx does not start in web1: out of luck" in done.stderr
    assert leftovers() == []


# ------------------------------------------------------------------- several


def test_two_ups_at_once_raise_one_lab(nothing: Path) -> None:
    command = [*LBCTL, "lab", "up", str(nothing), "--hosts-only"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    answers = sorted("already" in process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert answers == [False, True]


def test_another_lab_with_a_host_of_that_name_is_refused(nothing: Path, tmp_path: Path) -> None:
    lab("up", str(nothing), "--hosts-only")
    other = tmp_path / "other.toml"
    other.write_text(CONF.replace('name = "small"', 'name = "other"'))
    refused = lab("up", str(other), "--hosts-only", status=1).stderr
    assert "the lab of small" in refused
    assert "lb1, lb2, web-fallback, web1, web2" in refused
    assert "up already" in lab("up", str(nothing), "--hosts-only").stdout


def test_two_labs_with_other_names_stand_side_by_side(nothing: Path, tmp_path: Path) -> None:
    lab("up", str(nothing), "--hosts-only")
    other = tmp_path / "other.toml"
    text = CONF.replace('"small"', '"other"').replace('"lb', '"d').replace('"web', '"www')
    other.write_text(text)
    assert "lab exec client-other -- curl" in lab("up", str(other), "--hosts-only").stdout
    assert lab("exec", "client-other", "--", "curl", "-s", "http://10.1.0.11/").stdout == "www1\n"
    assert curl("http://10.1.0.11/") == "web1\n"
    lab("down", str(nothing))
    assert "up already" in lab("up", str(other), "--hosts-only").stdout
    assert lab("exec", "client-other", "--", "curl", "-s", "http://10.1.0.12/").stdout == "www2\n"


@pytest.mark.usefixtures("nothing")
def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    conf = tmp_path / "cluster.toml"
    conf.write_text(CONF)
    lab("up", str(conf), "--hosts-only")
    conf.write_text(CONF.replace("10.1.0.12", "10.1.0.13"))
    assert "another version of this file" in lab("up", str(conf), "--hosts-only", status=1).stderr
    conf.write_text(CONF.replace('name = "web2"', 'name = "web2"\nweight = 5'))
    assert "up already" in lab("up", str(conf), "--hosts-only").stdout


@pytest.mark.usefixtures("nothing")
def test_dozens_of_hosts(tmp_path: Path) -> None:
    conf = tmp_path / "cluster.toml"
    reals = "".join(f'[[virtual.real]]\naddress = "10.1.1.{n}"\n' for n in range(1, 41))
    reals += 'name = "a-name-longer-than-links-have"\n'
    conf.write_text(CONF + '[[virtual]]\nname = "many"\naddress = "203.0.113.9"\nport = 81\n' + reals)
    lab("up", str(conf), "--hosts-only")
    assert len(hosts(conf)) == 46
    assert curl("http://10.1.1.39:81/") == "many39\n"
    assert curl("http://10.1.1.40:81/") == "a-name-longer-than-links-have\n"
