"""The lab of a configuration, as a value: hosts, addresses, networks, what each serves."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from lb import config
from lb.errors import LabError
from lb.lab.addressing import covering
from lb.lab.design import build
from lb.lab.examples import example
from lb.lab.pages import page_path
from lb.lab.topology import Host, Server, Topology

HEAD = """
[cluster]
name = "demo"
interface = "eth0"
[[node]]
name = "lb1"
address = "192.168.1.103"
[[node]]
name = "lb2"
address = "192.168.1.104"
interface = "ens5"
[ha]
"""
CHECK = 'check = { type = "negotiate", request = "/up", receive = "fine" }\n'


def virtual(name: str, *lines: str, address: str = "192.168.1.105", port: int = 80) -> str:
    return f'[[virtual]]\nname = "{name}"\naddress = "{address}"\nport = {port}\n' + "\n".join(lines) + "\n"


def real(address: str, name: str | None = None) -> str:
    return f'[[virtual.real]]\naddress = "{address}"\n' + (f'name = "{name}"\n' if name else "")


def topology(*parts: str, ha: str = "") -> Topology:
    return build(config.parse("\n".join((HEAD, ha, *parts)), "/etc/lbctl/cluster.toml"), example)


def only_server(host: Host) -> Server:
    (server,) = host.servers
    return server


def test_hosts_are_the_client_the_directors_and_the_reals() -> None:
    lab = topology(virtual("web"), real("192.168.1.101", "web1"), real("192.168.1.102"))
    assert [(host.name, host.kind, host.interface) for host in lab.hosts] == [
        ("client", "client", "eth0"),
        ("lb1", "director", "eth0"),
        ("lb2", "director", "ens5"),
        ("web1", "real", "eth0"),
        ("web2", "real", "eth0"),
    ]
    assert [host.namespace for host in lab.directors] == ["lbctl-lb1", "lbctl-lb2"]
    assert lab.switch == "lbctl-switch-demo"
    assert lab.networks == (IPv4Network("192.168.1.0/24"),)


def test_the_client_has_a_free_address_and_plays_the_router() -> None:
    ping = 'ping = ["192.168.1.1", "192.168.1.103", "192.168.1.254"]'
    client = topology(virtual("web"), real("192.168.1.253"), ha=ping).host("client")
    assert client.addresses == tuple(map(IPv4Address, ("192.168.1.252", "192.168.1.1", "192.168.1.254")))


def test_a_real_of_two_virtuals_is_one_host_under_its_first_name() -> None:
    lab = topology(
        virtual("web"), real("192.168.1.101"), virtual("mail", port=25), real("192.168.1.101"), real("192.168.1.102")
    )
    assert [host.name for host in lab.hosts if host.kind == "real"] == ["web1", "mail2"]
    assert [server.port for server in lab.host("web1").servers] == [25, 80]


def test_a_name_given_later_counts_for_the_first_appearance_too() -> None:
    lab = topology(virtual("a"), real("192.168.1.101"), virtual("b", port=81), real("192.168.1.101", "www"))
    assert [host.name for host in lab.hosts if host.kind == "real"] == ["www"]


def test_no_two_hosts_share_a_name() -> None:
    lab = topology(
        virtual("web"),
        real("192.168.1.101", "web2"),
        real("192.168.1.102"),
        real("192.168.1.106", "client"),
        real("192.168.1.107", "switch-demo"),
    )
    names = [host.name for host in lab.hosts]
    assert names == ["client-2", "lb1", "lb2", "web2", "web2-2", "client", "switch-demo"]
    assert lab.switch == "lbctl-switch-demo-2"


def test_a_fallback_host_is_raised_and_serves() -> None:
    lab = topology(virtual("web", 'fallback = "192.168.1.99"', port=8080), real("192.168.1.101"))
    host = lab.host("web-fallback")
    assert (host.kind, host.addresses) == ("real", (IPv4Address("192.168.1.99"),))
    assert only_server(host).port == 8080


def test_directors_serve_only_what_falls_back_to_them() -> None:
    lab = topology(
        virtual("web", 'fallback = "127.0.0.1:80"'), real("192.168.1.101"), virtual("x", port=81), real("192.168.1.102")
    )
    assert [server.port for server in lab.host("lb1").servers] == [80]


def test_udp_is_echoed_and_its_check_answered_over_the_checks_own_protocol() -> None:
    def host(kind: str) -> Host:
        check = f'check = {{ type = "{kind}", port = 8053 }}'
        return topology(virtual("dns", 'protocol = "udp"', check, port=53), real("192.168.1.101")).host("dns1")

    asked_web, asked_udp = host("negotiate"), host("connect")
    assert asked_web.udp_ports == (53,)
    assert only_server(asked_web).port == 8053
    assert asked_udp.udp_ports == (53, 8053)
    assert asked_udp.servers == ()


def test_every_port_means_port_80_and_the_checks() -> None:
    lab = topology(virtual("all", 'check = { type = "connect", port = 22 }', port=0), real("192.168.1.101"))
    assert [server.port for server in lab.host("all1").servers] == [22, 80]


def test_https_where_the_check_or_the_port_says_so() -> None:
    check = 'check = { type = "negotiate", service = "https", port = 8443 }'
    lab = topology(
        virtual("web", check, port=80), real("192.168.1.101"), virtual("tls", port=443), real("192.168.1.102")
    )
    assert [(s.port, s.tls) for s in lab.host("web1").servers] == [(80, False), (8443, True)]
    assert [(s.port, s.tls) for s in lab.host("tls1").servers] == [(443, True)]


def test_the_checks_page_names_the_host_and_is_what_the_check_wants() -> None:
    (page,) = only_server(topology(virtual("web", CHECK), real("192.168.1.101")).host("web1")).pages
    assert (page.path, page.status, page.body, page.passes) == ("/up", 200, "web1\nfine\n", True)


@pytest.mark.parametrize("receive", ["^OK$", r"(?i)[a-f]{3}\s\d+", "<b>(up|down)</b>", "x.*y", r"^web1$", r"\AOK\Z"])
def test_a_made_up_page_matches(receive: str) -> None:
    check = f"check = {{ type = 'negotiate', receive = '{receive}' }}"
    (page,) = only_server(topology(virtual("web", check), real("192.168.1.101")).host("web1")).pages
    assert page.passes
    assert regex.search(receive, page.body)


def test_a_page_that_cannot_be_made_up_is_said() -> None:
    check = "check = { type = 'negotiate', request = '/x', receive = 'a^b' }"
    lab = topology(virtual("web", check), real("192.168.1.101"))
    assert [(host.name, path) for host, path in lab.unanswered] == [("web1", "/x")]


def test_two_checks_of_one_path_get_a_page_for_both() -> None:
    second = 'check = { type = "negotiate", request = "/up", receive = "good", port = 80 }'
    lab = topology(
        virtual("a", CHECK), real("192.168.1.101", "w"), virtual("b", second, port=81), real("192.168.1.101", "w")
    )
    page = next(server for server in lab.host("w").servers if server.port == 80).pages[0]
    assert page.body == "w\nfine\ngood\n"


def test_a_real_that_is_asked_for_something_of_its_own_serves_that() -> None:
    own = real("192.168.1.102") + 'request = "/two"\nreceive = "Page 2"\n'
    lab = topology(virtual("web", CHECK), real("192.168.1.101"), own)
    pages = [only_server(lab.host(name)).pages[0] for name in ("web1", "web2")]
    assert [(page.path, page.body) for page in pages] == [("/up", "web1\nfine\n"), ("/two", "web2\nPage 2\n")]


@pytest.mark.parametrize(("wanted", "given_status"), [("[204, 200]", 200), ("[503, 302]", 503), ("[]", 200)])
def test_a_status_that_the_check_accepts(wanted: str, given_status: int) -> None:
    lab = topology(virtual("web", f'check = {{ type = "negotiate", status = {wanted} }}'), real("192.168.1.101"))
    assert only_server(lab.host("web1")).pages[0].status == given_status


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ("/", "/"),
        ("/up.html?x=1", "/up.html"),
        ("/a%20b", "/a b"),
        ("/a/../b//c/", "/b/c/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/../", "/"),
    ],
)
def test_the_path_as_a_web_server_sees_it(request_: str, path: str) -> None:
    assert page_path(request_) == path


@given(
    st.lists(
        st.integers(1 << 24, (224 << 24) - 1).filter(lambda n: 0 < n % (1 << 24) < (1 << 24) - 1).map(IPv4Address),
        min_size=1,
        max_size=20,
    )
)
def test_every_address_is_a_host_of_exactly_one_network(addresses: list[IPv4Address]) -> None:
    networks = covering(addresses)
    for address in addresses:
        (network,) = [network for network in networks if address in network]
        assert address not in (network.network_address, network.broadcast_address)
        assert network.prefixlen <= 24


def test_unlike_networks_stay_apart() -> None:
    addresses = map(IPv4Address, ("10.1.0.2", "10.9.9.9", "203.0.113.7", "203.0.113.8"))
    assert covering(addresses) == (IPv4Network("10.0.0.0/12"), IPv4Network("203.0.113.0/24"))


def test_a_network_widens_for_its_first_and_last_number() -> None:
    assert covering([IPv4Address("192.168.1.255")]) == (IPv4Network("192.168.0.0/22"),)
    assert covering([IPv4Address("192.168.0.0")]) == (IPv4Network("192.160.0.0/12"),)


def test_without_a_free_address_it_says_so() -> None:
    reals = "".join(real(f"192.168.1.{n}") for n in range(1, 255) if n not in (103, 104, 105))
    with pytest.raises(LabError, match=r"no address of 192\.168\.1\.0/24 is left"):
        topology(virtual("web"), reals)


def test_an_unknown_host_is_told_the_known() -> None:
    with pytest.raises(LabError, match="no host 'web9'; it has client, lb1, lb2"):
        topology(virtual("web"), real("192.168.1.101")).host("web9")


def test_survives_json() -> None:
    lab = topology(virtual("web", CHECK), real("192.168.1.101"))
    assert Topology.model_validate_json(lab.model_dump_json()) == lab


# ------------------------------------------------------------------- behind a router


def far(*addresses: str) -> Topology:
    return topology(virtual("web", 'forward = "ipip"'), *(real(address) for address in addresses))


def test_reals_in_tunnels_are_behind_a_router() -> None:
    lab = far("10.5.0.1", "192.168.2.7", "192.168.1.101")
    assert [(host.name, host.kind, [cable.segment for cable in host.cables]) for host in lab.hosts] == [
        ("client", "client", [0]),
        ("lb1", "director", [0]),
        ("lb2", "director", [0]),
        ("router", "router", [0, 1]),
        ("web1", "real", [1]),
        ("web2", "real", [1]),
        ("web3", "real", [0]),
    ]
    behind = IPv4Network("10.5.0.0/24"), IPv4Network("192.168.2.0/24")
    assert lab.segments == ((IPv4Network("192.168.1.0/24"),), behind)
    router = lab.host("router")
    assert list(map(str, router.addresses)) == ["192.168.1.253", "10.5.0.254", "192.168.2.254"]
    assert {route.network for route in lab.host("lb1").routes} == set(behind)
    assert {route.gateway for host in ("client", "lb2", "web3") for route in lab.host(host).routes} == {
        router.addresses[0]
    }
    assert [(str(r.network), str(r.gateway)) for r in lab.host("web2").routes] == [("0.0.0.0/0", "192.168.2.254")]
    assert [host.tunnels for host in lab.hosts] == [()] * 4 + [((4, 4),)] * 3


def test_reals_of_ipv6_are_behind_a_router_of_both_families() -> None:
    """The directors have no IPv6 by themselves; the real answers clients of IPv4."""
    lab = far("2001:db8:7::11", "10.5.0.1")
    assert lab.segments == (
        (IPv4Network("192.168.1.0/24"), IPv6Network("2001:db8:ffff:1::/64")),
        (IPv4Network("10.5.0.0/24"), IPv6Network("2001:db8:7::/64")),
    )
    router, new = lab.host("router"), lab.host("web1")
    assert list(map(str, router.addresses)) == [
        *("192.168.1.253", "2001:db8:ffff:1:ffff:ffff:ffff:fffe"),
        *("10.5.0.254", "2001:db8:7:0:ffff:ffff:ffff:fffe"),
    ]
    assert list(map(str, new.addresses)) == ["2001:db8:7::11", "10.5.0.253"]
    assert [(str(r.network), str(r.gateway)) for r in new.routes] == [
        ("::/0", "2001:db8:7:0:ffff:ffff:ffff:fffe"),
        ("0.0.0.0/0", "10.5.0.254"),
    ]
    for name in ("client", "lb1", "lb2"):
        host = lab.host(name)
        assert any(address in IPv6Network("2001:db8:ffff:1::/64") for address in host.addresses)
        assert [str(r.gateway) for r in host.routes] == ["192.168.1.253", "2001:db8:ffff:1:ffff:ffff:ffff:fffe"]
    assert (new.tunnels, lab.host("web2").tunnels) == (((6, 4),), ((4, 4),))


def test_a_real_on_the_segment_has_an_address_of_its_clients_family() -> None:
    """Else it would ask by ARP in the virtual's name."""
    gates = virtual("six", address="2001:db8:1::105") + real("2001:db8:1::9")
    lab = topology(virtual("web", 'forward = "ipip"'), real("2001:db8:1::7"), gates)
    assert len(lab.segments) == 1
    assert [address.version for address in lab.host("web1").addresses] == [6, 4]


def test_hosts_of_one_name_are_on_one_segment() -> None:
    gates = virtual("six", address="2001:db8:1::105") + real("2001:db8:1::7", "both")
    lab = topology(virtual("web", 'forward = "ipip"'), real("10.5.0.7", "both"), gates)
    assert len(lab.segments) == 1
    assert len(lab.host("both").addresses) == 2


def test_a_gate_real_keeps_its_network_on_the_segment() -> None:
    lab = topology(virtual("web", 'forward = "ipip"'), real("10.5.0.1"), virtual("old", port=81), real("10.5.0.2"))
    assert len(lab.segments) == 1
    assert lab.host("web1").tunnels
    assert not lab.host("old1").tunnels


def test_a_director_may_be_called_router() -> None:
    text = HEAD.replace('"lb1"', '"router"') + virtual("web", 'forward = "ipip"') + real("10.5.0.1")
    lab = build(config.parse(text, "/etc/lbctl/cluster.toml"), example)
    assert [host.name for host in lab.hosts if host.kind == "router"] == ["router-2"]


def test_directors_with_further_interfaces_are_on_both_segments() -> None:
    text = HEAD.replace('interface = "eth0"', 'interface = "eth0"\nreal_interfaces = ["eth1"]', 1)
    lab = build(config.parse(text + virtual("web") + real("10.5.0.1"), "/etc/lbctl/cluster.toml"), example)
    assert [[(c.interface, c.segment) for c in host.cables] for host in lab.directors] == [
        [("eth0", 0), ("eth1", 1)],
        [("ens5", 0), ("eth1", 1)],
    ]
    assert len({address for host in lab.hosts for address in host.addresses}) == 8
    assert not lab.host("lb1").routes
    assert [str(route.gateway) for route in lab.host("web1").routes] == [str(lab.host("router").addresses[1])]
    assert not lab.host("web1").tunnels
