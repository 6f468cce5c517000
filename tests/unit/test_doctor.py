"""Every judge of the doctor with values of each kind, and looks at this very machine that need no rights."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from pathlib import Path

import pytest
from click.testing import CliRunner

from lb import config, realserver
from lb.cli.doctor import doctor
from lb.datapath.attach import NATIVE_MTU
from lb.doctor import DIRECTOR, MACHINE, REAL, devices, director, drivers, machine, real
from lb.doctor.devices import Device, judge_device, judge_queue_limits
from lb.doctor.director import Site
from lb.doctor.drivers import driver_of
from lb.doctor.listeners import listens, parse
from lb.doctor.verdict import Verdict
from lb.errors import ConfigError, Problem
from lb.model import Check
from lb.netif import Link, Route, tunnel

CONF = Path(__file__).parents[2] / "conf" / "cluster.toml"
LB1, VIRTUAL = IPv4Address("192.168.1.103"), IPv4Address("192.168.1.105")
UP = Link(index=2, name="eth0", mac=bytes.fromhex("02000000000a"), mtu=1500, up=True, carrier=True)
SEGMENT = IPv4Network("192.168.1.0/24")


@pytest.fixture
def site() -> Site:
    cluster = config.load(CONF)
    return Site(cluster, cluster.node("lb1"), Path("authkeys"), lambda _path: ())


def on(interface: str, address: str) -> tuple[str, IPv4Interface]:
    return interface, IPv4Interface(address)


VLAN = "802.1Q VLAN Support"


def bond(mode: str, *drivers: str, able: bool = True) -> Device:
    """Of cards with these drivers."""
    below = tuple(Device(f"eth{number}", driver) for number, driver in enumerate(drivers))
    return Device("bond0", "bonding", below=below, mode=f"some ({mode})", able=able)


def test_names_are_unique_and_short() -> None:
    names = [name for table in (MACHINE, DIRECTOR, REAL) for name, _ in table]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 20


def check(verdict: Verdict, level: str, seen: str) -> None:
    """A verdict of that level that shows `seen`; whatever is not ok says in one line how to mend it."""
    assert verdict.level == level, verdict
    assert seen in verdict.seen
    assert bool(verdict.mend) == (level != "ok")
    assert "\n" not in verdict.mend


class TestMachine:
    @pytest.mark.parametrize(
        ("capabilities", "level", "seen"),
        [
            ({12, 13, 39}, "ok", "CAP_BPF"),
            ({13, 21}, "ok", "CAP_BPF"),  # CAP_SYS_ADMIN stands for both others
            ({12, 13}, "fail", "lacks CAP_BPF"),
            ({12, 39}, "fail", "lacks CAP_NET_RAW"),
            (set(), "fail", "lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"),
        ],
    )
    def test_rights(self, capabilities: set[int], level: str, seen: str) -> None:
        check(machine.judge_rights(1000, sum(1 << bit for bit in capabilities)), level, seen)

    def test_no_bcc(self) -> None:
        check(machine.judge_bcc(None), "fail", "no module bcc")

    def test_the_other_bcc(self, tmp_path: Path) -> None:
        check(machine.judge_bcc(tmp_path), "fail", "another project")

    def test_the_bcc_of_this_machine(self) -> None:
        for verdict in machine.look_at_bcc():
            check(verdict, "ok", "bcc")

    def test_the_headers_of_this_machine(self) -> None:
        (verdict,) = machine.look_at_headers()
        check(verdict, "ok", "linux-libc-dev")

    @pytest.mark.parametrize(
        ("release", "level"),
        [("6.1.0-18-amd64", "ok"), ("5.9", "ok"), ("5.10.0", "ok"), ("5.8.18", "fail"), ("4.19.0", "fail")],
    )
    def test_kernel(self, release: str, level: str) -> None:
        check(machine.judge_kernel(release, "x86_64"), level, release)

    def test_a_machine_of_another_kind(self) -> None:
        check(machine.judge_kernel("6.1.0", "riscv64"), "fail", "riscv64")

    @pytest.mark.parametrize(
        ("mounts", "level"),
        [
            ("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw,relatime 0 0\n", "ok"),
            ("none /sys/fs/bpf bpf rw 0 0\n", "ok"),
            ("bpf /mnt bpf rw 0 0\n", "fail"),
            ("tmpfs /sys/fs/bpf tmpfs rw 0 0\n", "fail"),
            ("", "fail"),
        ],
    )
    def test_bpf_file_system(self, mounts: str, level: str) -> None:
        check(machine.judge_bpffs(mounts), level, "/sys/fs/bpf")

    @pytest.mark.parametrize(("setting", "level"), [("1", "ok"), ("2", "ok"), (None, "ok"), ("0", "warn")])
    def test_jit(self, setting: str | None, level: str) -> None:
        check(machine.judge_jit(setting), level, "")

    @pytest.mark.parametrize(("state", "level"), [(0, "ok"), (1, "ok"), (5, "warn")])
    def test_clock(self, state: int, level: str) -> None:
        check(machine.judge_clock(state), level, "synchronised")


class TestDirector:
    def test_interface(self) -> None:
        check(director.judge_interface(UP), "ok", "eth0 is up, 02:00:00:00:00:0a")
        check(director.judge_interface(Link(2, "eth0", b"", 1500, up=False, carrier=False)), "fail", "eth0 is down")
        check(director.judge_interface(Link(2, "eth0", b"", 1500, up=True, carrier=False)), "fail", "no carrier")

    def test_address(self, site: Site) -> None:
        lo = on("lo", "127.0.0.1/8")
        check(director.judge_address(site.node, "eth0", [lo, on("eth0", f"{LB1}/24")]), "ok", str(LB1))
        check(
            director.judge_address(site.node, "eth0", [lo, on("eth1", f"{LB1}/24")]), "warn", "is on eth1, not on eth0"
        )
        check(director.judge_address(site.node, "eth0", [lo]), "fail", "is not on this host")

    @pytest.mark.parametrize(
        ("mtu", "driver", "jumbo", "level", "seen"),
        [
            (1500, "ixgbe", False, "ok", "1500 bytes"),
            (NATIVE_MTU, "ixgbe", False, "ok", f"{NATIVE_MTU} bytes"),
            (NATIVE_MTU + 1, "ixgbe", True, "warn", "ixgbe may know no XDP in several buffers"),
            (9000, "", True, "warn", "the driver may know no XDP in several buffers"),
            (9000, "ice", False, "warn", "Linux before 5.18 has no XDP in several buffers"),
            (9000, "ice", True, "ok", "9000 bytes, in several buffers, of which ice knows"),
        ],
    )
    def test_mtu(self, mtu: int, driver: str, jumbo: bool, level: str, seen: str) -> None:
        found = Link(2, "eth0", b"", mtu, up=True, carrier=True)
        check(director.judge_mtu(found, driver, jumbo), level, seen)

    @pytest.mark.parametrize(
        ("vlans", "taken_off", "level", "seen"),
        [
            ([], True, "ok", "no VLAN interface is above eth0"),
            (["eth0.5"], False, "ok", "frames of eth0.5 keep their tags"),
            (["eth0.5", "dmz"], True, "warn", "takes the tags of eth0.5, dmz off"),
        ],
    )
    def test_tags(self, vlans: list[str], taken_off: bool, level: str, seen: str) -> None:
        check(director.judge_tags("eth0", vlans, taken_off), level, seen)

    def test_vlans_are_those_of_the_interface(self) -> None:
        config = (
            "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n"
            "eth0.5         | 5  | eth0\ndmz            | 6  | eth0\neth1.5         | 5  | eth1\n"
        )
        assert drivers.vlans_on("eth0", config) == ["eth0.5", "dmz"]
        assert drivers.vlans_on("eth2", config) == []

    @pytest.mark.parametrize(
        ("device", "attach", "level", "seen"),
        [
            (Device("eth0", "veth"), "auto", "ok", "veth"),
            (Device("eth0", "ixgbe"), "native", "ok", "ixgbe: native XDP"),
            (Device("eth0", "e1000"), "auto", "warn", "e1000: generic XDP only"),
            (Device("eth0", "e1000"), "generic", "warn", "e1000"),
            (Device("eth0", "e1000"), "native", "fail", "e1000"),
            (Device("eth0", ""), "auto", "warn", "a driver without a name"),
            (Device("eth0", "virtio_net", pairs=4, most=8), "auto", "ok", "virtio_net: native XDP"),
            (Device("eth0", "virtio_net", pairs=8, most=8), "auto", "ok", "virtio_net: native XDP"),
            (Device("eth0", "virtio_net", pairs=1, most=1), "auto", "warn", "with 1 queue pairs; native XDP wants 5"),
            (Device("eth0.5", VLAN, below=(Device("eth0", "ixgbe"),)), "auto", "warn", "a VLAN interface on eth0"),
            (bond("xor", "ixgbe", "ixgbe"), "auto", "ok", "bonding over ixgbe: native XDP"),
            (bond("xor", "ixgbe", "e1000"), "auto", "warn", "of which eth1 (e1000) has no XDP"),
            (bond("broadcast", "ixgbe"), "native", "fail", "bonding over ixgbe in mode some (broadcast)"),
            (bond("xor", "ixgbe", able=False), "auto", "warn", "of which this kernel knows no XDP"),
            (
                replace(bond("xor"), below=(Device("eth0", "virtio_net", 1, 1),)),
                "auto",
                "warn",
                "eth0: virtio_net with 1",
            ),
        ],
    )
    def test_driver(self, device: Device, attach: str, level: str, seen: str) -> None:
        check(judge_device(device, 4, attach), level, seen)

    @pytest.mark.parametrize(
        ("device", "attach", "release", "level"),
        [
            (Device("eth0", "e1000"), "auto", "5.10.0-32-amd64", "warn"),
            (Device("eth0", "e1000"), "auto", "6.1.0-56-amd64", "ok"),
            (Device("eth0", "virtio_net"), "auto", "5.10.0-32-amd64", "ok"),
            (Device("eth0", "virtio_net"), "generic", "5.15.0", "warn"),
            (Device("eth0.5", "802.1Q VLAN Support", below=(Device("eth0", "e1000"),)), "auto", "5.10.0", "ok"),
        ],
    )
    def test_queue_limits(self, device: Device, attach: str, release: str, level: str) -> None:
        verdict = judge_queue_limits(device, attach, release)
        check(verdict, level, "")
        assert ("/sys/class/net/eth0/queues/" in verdict.mend) == (level == "warn")

    def test_a_device_of_this_machine(self) -> None:
        assert devices.device("lo") == Device("lo", "")

    def test_drivers_names_are_asked_of_the_kernel(self) -> None:
        assert driver_of("lo") == ""
        assert driver_of("no-such-link") == ""

    def test_segment(self) -> None:
        reals = [IPv4Address("192.168.1.101"), IPv4Address("10.0.0.7")]
        (verdict,) = director.judge_segment("eth0", [SEGMENT], reals[:1], [VIRTUAL])
        check(verdict, "ok", "all 1 reals")
        (verdict,) = director.judge_segment("eth0", [SEGMENT], reals, [VIRTUAL])
        check(verdict, "fail", "10.0.0.7 not in 192.168.1.0/24 of eth0")
        (verdict,) = director.judge_segment("eth0", [SEGMENT, IPv4Network("10.0.0.0/8")], reals, [VIRTUAL])
        check(verdict, "ok", "all 2 reals")
        fine, routed = director.judge_segment("eth0", [SEGMENT], reals[:1], [IPv4Address("203.0.113.1")])
        check(fine, "ok", "")
        check(routed, "warn", "virtual 203.0.113.1 not in 192.168.1.0/24")

    @pytest.mark.parametrize(
        ("holder", "running", "level", "seen"),
        [
            (None, False, "ok", "none of them is on this host"),
            (None, True, "ok", "none of them is on this host"),
            ("eth0", True, "ok", "eth0 holds 192.168.1.105"),
            ("eth0", False, "warn", "although no director runs here"),
            ("lo", False, "fail", "is on lo"),
            ("lo", True, "fail", "is on lo"),
            ("eth1", True, "fail", "is on eth1"),
        ],
    )
    def test_virtual_addresses(self, holder: str | None, running: bool, level: str, seen: str) -> None:
        here = [on("eth0", f"{LB1}/24")] + ([on(holder, f"{VIRTUAL}/32")] if holder else [])
        (verdict,) = director.judge_virtuals("eth0", [VIRTUAL], here, running)
        check(verdict, level, seen)

    def test_firewall(self, site: Site) -> None:
        check(director.judge_firewall(site, [], nftables=False), "ok", "none")
        both = director.judge_firewall(site, ["filter", "nat"], nftables=True)
        check(both, "warn", "iptables (filter, nat) and nftables")
        assert "port 694 of 192.168.1.104" in both.mend

    def test_keys(self, site: Site) -> None:
        def judged(weak: tuple[int, ...] | ConfigError) -> Verdict:
            def read(_path: Path) -> tuple[int, ...]:
                if isinstance(weak, ConfigError):
                    raise weak
                return weak

            (verdict,) = director.look_at_keys(Site(site.cluster, site.node, Path("/etc/keys"), read))
            return verdict

        check(judged(()), "ok", "/etc/keys")
        check(judged((1, 3)), "warn", "key 1, 3 of /etc/keys")
        check(judged(ConfigError("/etc/keys", (Problem(2, "", "no method"),))), "fail", "/etc/keys:2: no method")

    @pytest.mark.parametrize(
        ("soft", "hard", "level", "mend"),
        [(1024, 4096, "ok", ""), (300, 4096, "fail", "ulimit -n"), (300, 300, "fail", "LimitNOFILE=")],
    )
    def test_open_files(self, soft: int, hard: int, level: str, mend: str) -> None:
        verdict = director.judge_files(soft, hard, 100)
        check(verdict, level, f"{soft} allowed")
        assert verdict.mend.startswith(mend)

    def test_checks(self, site: Site) -> None:
        (verdict,) = director.look_at_checks(site)
        check(verdict, "ok", "nothing is missing")
        web = site.cluster.virtuals[0]
        program = web.model_copy(update={"check": Check(type="external", command=("/no/such/program",))})
        cluster = site.cluster.model_copy(update={"virtuals": (program,)})
        (verdict,) = director.look_at_checks(Site(cluster, site.node, site.keys_path, site.weak_keys))
        check(verdict, "fail", "virtual[0].check.command: '/no/such/program' is not a program")


class TestReal:
    def test_items(self) -> None:
        good = realserver.Item("net/ipv4/conf/all/arp_ignore", "1", "1")
        check(real.judge_item(good, "c.toml"), "ok", "arp_ignore: 1")
        bad = real.judge_item(realserver.Item("192.168.1.105/32 on lo", "there", "missing"), "c.toml")
        check(bad, "fail", "192.168.1.105/32 on lo: missing, needed: there")
        assert bad.mend == "lbctl realserver up c.toml"


class TestListeners:
    def test_the_kernels_tables(self) -> None:
        head = "  sl  local_address rem_address   st ...\n"
        listening = "   0: 6901A8C0:0050 00000000:0000 0A 0 0\n"
        connected = "   1: 6901A8C0:0051 6501A8C0:C001 01 0 0\n"
        everywhere = "   2: 00000000:01BB 00000000:0000 0A 0 0\n"
        assert list(parse(head + listening + connected + everywhere, "0A")) == [
            (VIRTUAL, 80),
            (IPv4Address("0.0.0.0"), 443),
        ]
        six = (
            "   0: 00000000000000000000000000000000:0050 0:0 0A 0 0\n"
            "   1: 0000000000000000FFFF00006901A8C0:0051 0:0 0A 0 0\n"
            "   2: 00000000000000000000000001000000:0052 0:0 0A 0 0\n"
        )
        assert list(parse(head + six, "0A")) == [(IPv6Address("::"), 80), (VIRTUAL, 81), (IPv6Address("::1"), 82)]

    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    def test_a_wildcard_takes_the_virtual_address(self, family: socket.AddressFamily) -> None:
        with socket.create_server(("::" if family == socket.AF_INET6 else "0.0.0.0", 0), family=family) as server:
            port = server.getsockname()[1]
            assert listens("tcp", VIRTUAL, port)
        assert not listens("tcp", VIRTUAL, port)

    def test_another_address_does_not(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert listens("tcp", IPv4Address("127.0.0.1"), port)
            assert not listens("tcp", VIRTUAL, port)

    def test_udp(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            assert listens("udp", IPv4Address("127.0.0.1"), server.getsockname()[1])


class TestCommand:
    def test_a_wrong_file_is_refused_before_anything_is_looked_at(self, tmp_path: Path) -> None:
        conf = tmp_path / "wrong.toml"
        conf.write_text("[cluster]\nnam = 'x'\n")
        result = CliRunner().invoke(doctor, [str(conf)])
        assert isinstance(result.exception, ConfigError)
        assert result.output == ""


def test_routes_of_tunnels() -> None:
    far, router = IPv4Address("10.5.0.1"), IPv4Address("10.0.0.254")
    right = director.judge_route(["eth0"], far, Route("eth0", router, IPv4Address("10.0.0.2"), 1500))
    assert right == ("ok", "10.5.0.1 by 10.0.0.254, packets of 1480 bytes at most", "")
    wrong = director.judge_route(["eth0"], far, Route("eth1", None, IPv4Address("10.0.0.2"), 1500))
    assert (wrong.level, "reached by eth1, not eth0" in wrong.seen) == ("fail", True)


@pytest.mark.parametrize(("mtu", "inner", "level"), [(1320, 6, "ok"), (1319, 6, "warn"), (1319, 4, "ok")])
def test_ipv6_needs_1280_bytes_in_a_tunnel(mtu: int, inner: int, level: str) -> None:
    far = IPv6Address("2001:db8:5::1")
    found = director.judge_route(["eth0"], far, Route("eth0", None, IPv6Address("2001:db8::2"), mtu), inner)
    check(found, level, str(mtu - 40))


@pytest.mark.parametrize(
    ("there", "available", "level"), [(True, False, "ok"), (False, True, "ok"), (False, False, "fail")]
)
def test_the_end_of_a_tunnel(there: bool, available: bool, level: str) -> None:
    for (outer, inner), end in tunnel.ENDS.items():
        found = real.judge_tunnel(end, outer, inner, there, available)
        check(found, level, f"IPv{inner} in IPv{outer}")
        if level == "fail":
            assert found.mend == f"modprobe {end.module}, or a kernel with {end.option}"
