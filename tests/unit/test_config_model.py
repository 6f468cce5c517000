"""`lb.model`: the look-ups over a cluster that everybody else relies on."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from lb import config
from lb.errors import ConfigError
from lb.model import Cluster, Endpoint, Ha, Pair, Virtual
from tests.unit.test_config import VALID


@pytest.fixture
def cluster() -> Cluster:
    more = """
[[virtual]]
name = "tls"
address = "192.168.1.105"
port = 443
check = {type = "connect", port = 8443}
real = [{address = "192.168.1.101", name = "web1"}, {address = "192.168.1.107"}]
"""
    text = VALID.replace('name = "lb2"', 'name = "lb2"\ninterface = "eth9"')
    return config.parse(text + more, "/etc/lbctl/cluster.toml")


def test_nodes_and_peers(cluster: Cluster) -> None:
    assert cluster.node("lb2").address == IPv4Address("192.168.1.104")
    assert [peer.name for peer in cluster.peers_of("lb2")] == ["lb1"]
    assert [cluster.interface_of(node) for node in cluster.nodes] == ["eth0", "eth9"]
    with pytest.raises(KeyError):
        cluster.node("lb3")


def test_addresses_and_files(cluster: Cluster) -> None:
    assert cluster.addresses == (IPv4Address("192.168.1.105"),)
    assert cluster.authkeys_path == Path("/etc/lbctl/authkeys")
    elsewhere = cluster.model_copy(update={"ha": Ha(authkeys="/root/keys")})
    assert elsewhere.authkeys_path == Path("/root/keys")


def test_where_reals_are_asked_and_how_they_are_called(cluster: Cluster) -> None:
    web, tls = cluster.virtuals
    assert (web.check_port, tls.check_port) == (80, 8443)
    assert [tls.real_name(real) for real in tls.reals] == ["web1", "tls2"]


def test_a_real_may_be_asked_for_something_of_its_own() -> None:
    text = VALID.replace('name = "web2"', 'name = "web2"\nrequest = "/two"\nreceive = "Page 2"')
    (virtual,) = config.parse(text, "c").virtuals
    asked = [virtual.check_of(real) for real in virtual.reals]
    assert [(check.request, check.receive) for check in asked] == [(None, "Test Page"), ("/two", "Page 2")]
    assert asked[0] is virtual.check
    assert asked[1].interval == virtual.check.interval


def test_silence_is_late_after_half_of_deadtime_unless_said_otherwise() -> None:
    assert Ha().late_s == 0.25
    assert Ha(warntime=0.3).late_s == 0.3


def test_a_fallback_is_its_text_or_a_value() -> None:
    base = {"name": "v", "address": "10.0.0.1", "port": 80}
    end = Endpoint(address=IPv4Address("127.0.0.1"), port=80)
    assert Virtual.model_validate({**base, "fallback": "127.0.0.1:80"}).fallback == end
    assert Virtual.model_validate({**base, "fallback": end}).fallback == end
    assert str(Endpoint(address=IPv4Address("10.0.0.9"))) == "10.0.0.9"


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("10.0.0.1:443", Pair(IPv4Address("10.0.0.1"), 443, "udp")),
        ("10.0.0.2:0/tcp", Pair(IPv4Address("10.0.0.2"), 0, "tcp")),
        ("[2001:db8::1]:53/udp", Pair(IPv6Address("2001:db8::1"), 53, "udp")),
    ],
)
def test_what_else_a_virtual_is_for(text: str, pair: Pair) -> None:
    base = {"name": "v", "address": "10.0.0.1", "port": 80, "protocol": "udp"}
    virtual = Virtual.model_validate({**base, "also": [text]})
    own = Pair(IPv4Address("10.0.0.1"), 80, "udp")
    assert virtual.pairs == (own, pair)
    assert virtual.addresses == tuple(dict.fromkeys((own.address, pair.address)))
    assert virtual.model_dump(mode="json")["also"] == [text]
    assert Virtual.model_validate(virtual.model_dump(by_alias=True)).also == virtual.also


class TestInherited:
    """`[cluster]`'s fallback and fallback_command are those of every virtual that has none of its own."""

    MORE = """
[[virtual]]
name = "tls"
address = "192.168.1.105"
port = 443
"""

    def test_where_a_virtual_has_none(self) -> None:
        general = 'interface = "eth0"\nfallback = "192.168.1.200"\nfallback_command = "/bin/true"'
        web, tls = config.parse(VALID.replace('interface = "eth0"', general) + self.MORE, "c").virtuals
        assert (str(web.fallback), web.fallback_command) == ("127.0.0.1:80", "/bin/true")
        assert (str(tls.fallback), tls.fallback_command) == ("192.168.1.200", "/bin/true")

    def test_what_is_inherited_must_fit(self) -> None:
        general = 'interface = "eth0"\nfallback = "192.168.1.101"'
        text = VALID.replace('interface = "eth0"', general).replace('fallback = "127.0.0.1:80"\n', "")
        with pytest.raises(ConfigError, match=r"15: virtual\[0\]\.fallback: 192\.168\.1\.101 is real\[0\]"):
            config.parse(text, "c")


def test_a_virtuals_own_alerts_are_the_others_but_for_what_it_says() -> None:
    text = VALID.replace("[virtual.check]", '[virtual.alerts]\nemail = []\nrepeat = "5m"\n[virtual.check]')
    cluster = config.parse(
        text + '[alerts]\nemail = ["ops@example.com"]\nwebhook = "https://chat.example.com/x"\n', "c"
    )
    (own,) = cluster.own_alerts.values()
    assert (own.email, own.webhook, own.repeat) == ((), "https://chat.example.com/x", 300.0)
    assert cluster.alerts.email == ("ops@example.com",)
    assert config.parse(VALID, "c").own_alerts == {}
