"""What a packet costs a director, in instructions; runs in a guest with four cards that counts (`python -m bench.vm`).

Four hosts on one hub: the client sends, the director balances, the two reals drop and count what reaches them. One
CPU does it all, and its clock counts instructions, so that the time between two packets is the whole way's cost;
what is left after the same packets were sent straight to the reals is the director's. Prints a JSON document.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.vm.generator import ACK, BATCH, SYN, Generator
from lb import namespaces

HOSTS = {"client": "10.9.0.1", "director": "10.9.0.2", "real1": "10.9.0.11", "real2": "10.9.0.12"}
MACS = {name: f"52:54:00:00:00:{number:02x}" for number, name in enumerate(HOSTS, start=1)}
REALS = ("real1", "real2")
VIRTUAL = "10.9.0.100"
PACKETS = 100 * BATCH
FLOWS = 16 * BATCH
ROUNDS = 3

CONFIGURATION = f"""
[cluster]
name = "bench"
interface = "eth"
attach = "{{attach}}"

[[node]]
name = "director"
address = "{HOSTS["director"]}"

[[virtual]]
name = "web"
address = "{VIRTUAL}"
port = 80
scheduler = "{{scheduler}}"
check.type = "on"
real = [{{{{ address = "{HOSTS["real1"]}" }}}}, {{{{ address = "{HOSTS["real2"]}" }}}}]
"""


def sh(command: str, host: str | None = None) -> str:
    """What a command prints, run in a host's network. Ends the bench with its words when it fails."""
    where = ["nsenter", f"--net=/run/netns/{host}"] if host else []
    done = subprocess.run([*where, "sh", "-ec", command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_network() -> None:
    """The four hosts; everybody knows everybody's MAC, so that no ARP is in what we measure."""
    for module in ("virtio_net", "ip_vs", "sch_ingress", "cls_matchall", "act_gact"):
        sh(f"modprobe {module}")
    for number, (name, address) in enumerate(HOSTS.items()):
        sh(f"ip netns add {name}; ip link set eth{number} netns {name} name eth")
        sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done", name)
        sh("for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$f; done", name)
        sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up; ip link set eth up", name)
        sh(f"ip address add {address}/24 dev eth", name)
        for other, mac in MACS.items():
            if other != name:
                sh(f"ip neighbour replace {HOSTS[other]} lladdr {mac} dev eth nud permanent", name)
    for name in REALS:
        sh("tc qdisc add dev eth clsact; tc filter add dev eth ingress matchall action drop", name)


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    """No director at all."""
    yield


@contextlib.contextmanager
def routing() -> Iterator[None]:
    """The kernel forwards, to one real."""
    sh(f"echo 1 >/proc/sys/net/ipv4/ip_forward; ip route add {VIRTUAL}/32 via {HOSTS['real1']}", "director")
    yield
    sh(f"ip route del {VIRTUAL}/32; echo 0 >/proc/sys/net/ipv4/ip_forward", "director")


@contextlib.contextmanager
def ipvs(scheduler: str) -> Iterator[None]:
    """IPVS, direct routing."""
    sh(f"ip address add {VIRTUAL}/32 dev eth; ipvsadm -A -t {VIRTUAL}:80 -s {scheduler}", "director")
    for real in REALS:
        sh(f"ipvsadm -a -t {VIRTUAL}:80 -r {HOSTS[real]} -g", "director")
    yield
    sh(f"ipvsadm -C; ip address del {VIRTUAL}/32 dev eth", "director")


@contextlib.contextmanager
def lbctl(attach: str, scheduler: str) -> Iterator[None]:
    """This very checkout's `lbctl up`."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "cluster.toml"
        conf.write_text(CONFIGURATION.format(attach=attach, scheduler=scheduler))
        program = f"{sys.executable} -m lb"
        sh(f"{program} up -d {conf} --node director", "director")
        for _ in range(100):
            status = json.loads(sh(f"{program} status --json --node director", "director"))
            if status["role"] == "active" and all(r["health"] == "up" for r in status["virtuals"][0]["reals"]):
                break
            time.sleep(1)
        else:
            sys.exit(f"lbctl did not become active: {status}")
        time.sleep(5)
        yield
        sh(f"{program} down --node director", "director")


def received() -> int:
    """Packets that reached the reals so far."""
    return sum(
        int(re.findall(r"Sent \d+ bytes (\d+) pkt", sh("tc -s filter show dev eth ingress", real))[0]) for real in REALS
    )


def measure(generator: Generator, to: tuple[str, ...], ports: Iterator[int]) -> dict[str, float]:
    """Instructions a packet, of known connections and of new ones; medians of ROUNDS."""
    macs = [MACS[name] for name in to]
    costs: dict[str, list[float]] = {"known": [], "new": []}
    for _ in range(ROUNDS):
        # Nothing that waits for a disk may come in between: the clock leaps meanwhile, and connections run out.
        first, before = next(ports), received()
        generator.send(FLOWS, SYN, macs, FLOWS, first)
        generator.send(FLOWS, ACK, macs, FLOWS, first)
        costs["known"].append(generator.send(PACKETS, ACK, macs, FLOWS, first))
        costs["new"].append(generator.send(PACKETS, SYN, macs, PACKETS, next(ports)))
        time.sleep(0.1)
        sent, arrived = 2 * FLOWS + 2 * PACKETS, received() - before
        if arrived < sent * 0.999:
            sys.exit(f"only {arrived} of {sent} packets reached the reals")
    return {kind: statistics.median(cost) for kind, cost in costs.items()}


def main() -> None:
    """Every way, one after another."""
    make_network()
    with namespaces.inside("client", "client"):
        generator = Generator("eth", HOSTS["client"], VIRTUAL, MACS["client"])
    director = ("director",)
    ways = {
        "direct": (nothing(), REALS),
        "routing": (routing(), director),
        "IPVS rr": (ipvs("rr"), director),
        "IPVS mh": (ipvs("mh"), director),
        "lbctl native rr": (lbctl("native", "rr"), director),
        "lbctl native mh": (lbctl("native", "mh"), director),
        "lbctl generic rr": (lbctl("generic", "rr"), director),
    }
    found = {}
    for name, (way, to) in ways.items():
        ports = iter(range(1024, 65536 - PACKETS, PACKETS))
        with way, namespaces.inside("client", "client"):
            found[name] = measure(generator, to, ports)
        print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
