"""What the packet path should hold: health, orders and neighbours against the file."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lb import plan
from lb.addresses import Address
from lb.config import load, parse
from lb.errors import UsageError
from lb.health import Health, State
from lb.plan import Override
from lb.service import LOCAL, Destination, Hop, Service, ServiceKey, Way

CLUSTER = load(Path(__file__).parents[2] / "conf" / "cluster.toml")
WEB = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)
WEB1, WEB2 = IPv4Address("192.168.1.101"), IPv4Address("192.168.1.102")
WAY = Way(IPv4Address("192.168.1.103"), 1500)
MACS: dict[Address, bytes] = {WEB1: bytes(5) + b"\x01", WEB2: bytes(5) + b"\x02"}


BOTH = {WEB1, WEB2}


def hop_of(address: Address, forward: str) -> Hop:
    """With a way where one is needed."""
    return Hop(MACS.get(address), WAY if forward == "ipip" else None)


def planned(up: set[IPv4Address], overrides: plan.Overrides | None = None, hop_of: plan.HopOf = hop_of) -> Service:
    """The demo's service while these reals are up and the others down."""
    healths: dict[plan.Target, Health] = {(WEB, real): Health("up" if real in up else "down") for real in BOTH}
    standings = plan.standings(CLUSTER, healths, overrides or {}, 0.0)
    (service,) = plan.desired(CLUSTER, healths, overrides or {}, hop_of, standings)
    return service


def weights(up: set[IPv4Address], overrides: plan.Overrides | None = None) -> list[int]:
    return [destination.weight for destination in planned(up, overrides).destinations]


def test_everything_well() -> None:
    service = planned(BOTH)
    assert service.key == WEB
    assert service.scheduler == "rr"
    assert service.destinations == (Destination(WEB1, 1, MACS[WEB1], 1), Destination(WEB2, 1, MACS[WEB2], 1))
    assert service.fallback == Destination(LOCAL, 1)


def test_a_group() -> None:
    also = 'also = ["192.168.1.105:443", "192.168.1.106:0/udp"]'
    text = CLUSTER.path.read_text().replace("port = 80\n", f"port = 80\n{also}\n", 1)
    cluster = parse(text, "c")
    (service,) = plan.desired(cluster, {}, {}, hop_of, plan.standings(cluster, {}, {}, 0.0))
    assert service.key == WEB
    assert service.also == (WEB._replace(port=443), ServiceKey(WEB.address + 1, 0, 17))
    assert service.keys == (WEB, *service.also)
    assert cluster.addresses == (WEB.address, WEB.address + 1)


def test_a_real_that_is_not_up_has_no_weight() -> None:
    assert weights({WEB1}) == [1, 0]
    assert weights(set()) == [0, 0]


def test_an_unresolved_real_is_not_usable_but_keeps_its_weight() -> None:
    known: dict[Address, Hop] = {WEB1: Hop(MACS[WEB1])}
    service = planned(BOTH, hop_of=lambda address, _: known.get(address, Hop()))
    assert [d.usable for d in service.destinations] == [True, False]
    assert [d.weight for d in service.destinations] == [1, 1]


def test_orders_by_hand() -> None:
    one = ((WEB, WEB1),)
    drained = plan.drain({}, one)
    assert weights({WEB1, WEB2}, drained) == [0, 1]
    weighed = plan.weigh(drained, one, 7)
    assert weighed == {(WEB, WEB1): Override(weight=7, drained=True)}
    assert weights({WEB1, WEB2}, weighed) == [0, 1]
    assert weights({WEB1, WEB2}, plan.weigh({}, one, 7)) == [7, 1]
    assert plan.enable(weighed, one) == {}


@pytest.mark.parametrize("quiescent", [True, False])
@pytest.mark.parametrize("health", ["up", "down", "unknown"])
def test_only_a_real_that_is_down_leaves_a_virtual_that_is_not_quiescent(quiescent: bool, health: State) -> None:
    virtual = CLUSTER.virtuals[0].model_copy(update={"quiescent": quiescent, "expire_nodest_conn": True})
    cluster = CLUSTER.model_copy(update={"virtuals": (virtual,)})
    healths: dict[plan.Target, Health] = {(WEB, real): Health(health) for real in BOTH}
    (service,) = plan.desired(cluster, healths, {}, hop_of, plan.standings(cluster, healths, {}, 0.0))
    assert [d.gone for d in service.destinations] == [not quiescent and health == "down"] * 2
    assert (service.quiescent, service.expire_nodest) == (quiescent, True)


def test_a_passive_check_has_its_virtual_watched() -> None:
    virtual = CLUSTER.virtuals[0]
    for passive in (0, 3):
        check = virtual.check.model_copy(update={"passive": passive})
        cluster = CLUSTER.model_copy(update={"virtuals": (virtual.model_copy(update={"check": check}),)})
        (service,) = plan.desired(cluster, {}, {}, lambda *_: Hop(), plan.standings(cluster, {}, {}, 0.0))
        assert service.watched == (passive > 0)


def test_a_real_that_is_out_keeps_its_share() -> None:
    service = planned(set(), plan.weigh({}, ((WEB, WEB1),), 7))
    assert [(d.weight, d.share) for d in service.destinations] == [(0, 7), (0, 1)]


def test_a_drained_or_weighed_real_that_is_down_stays_out() -> None:
    assert weights({WEB2}, plan.weigh({}, ((WEB, WEB1),), 7)) == [0, 1]


@pytest.mark.parametrize("words", ["web/192.168.1.101", "192.168.1.101", "web/web1", "web1"])
def test_reals_are_found_by_address_and_name(words: str) -> None:
    assert plan.find_reals(CLUSTER, words) == ((WEB, WEB1),)


@pytest.mark.parametrize("words", ["192.168.1.103", "mail/192.168.1.101", "", "web/", "None"])
def test_who_is_no_real_is_told_who_is(words: str) -> None:
    with pytest.raises(UsageError, match=r"web/192\.168\.1\.101, web/192\.168\.1\.102"):
        plan.find_reals(CLUSTER, words)


def test_who_was_never_checked_gets_nothing() -> None:
    standings = plan.standings(CLUSTER, {}, {}, 0.0)
    (service,) = plan.desired(CLUSTER, {}, {}, hop_of, standings)
    assert [destination.weight for destination in service.destinations] == [0, 0]


def test_a_weight_by_hand_goes_before_the_answers_and_that_before_the_files() -> None:
    target = (WEB, WEB1)
    real = CLUSTER.virtuals[0].reals[0]
    asked = Health("up", weight=40)
    assert plan.ordered_weight(target, real, {}, Health("up")) == 1
    assert plan.ordered_weight(target, real, {}, asked) == 40
    assert plan.ordered_weight(target, real, {}, asked._replace(weight=0)) == 0
    assert plan.ordered_weight(target, real, plan.weigh({}, (target,), 7), asked) == 7
    assert plan.ordered_weight(target, real, plan.drain({}, (target,)), asked) == 0


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (set(), {}),
        ({"192.168.1.101"}, {WEB1: "192.168.1.101"}),
        ({"192.168.1.101:80"}, {WEB1: "192.168.1.101:80"}),
        ({"192.168.1.101:81", "web", "192.168.1.10"}, {}),
        ({"web2", "readme"}, {WEB2: "web2"}),
        ({"web1:80", "192.168.1.102"}, {WEB1: "web1:80", WEB2: "192.168.1.102"}),
    ],
)
def test_maintenance_files_name_reals(files: set[str], found: dict[IPv4Address, str]) -> None:
    assert plan.maintained(CLUSTER, files) == {(WEB, real): name for real, name in found.items()}


def test_who_is_reached_how() -> None:
    assert plan.reached_by(CLUSTER, "gate") == {WEB1, WEB2}
    assert not plan.reached_by(CLUSTER, "ipip")


def test_each_real_is_forwarded_to_as_it_or_its_virtual_says() -> None:
    text = CLUSTER.path.read_text().replace('forward = "gate"', 'forward = "ipip"')
    text = text.replace("127.0.0.1:80", "10.0.0.9")
    cluster = parse(text.replace('name = "web1"', 'name = "web1"\nforward = "gate"'), "cluster.toml")
    (service,) = plan.desired(cluster, {}, {}, hop_of, plan.standings(cluster, {}, {}, 0.0))
    assert [(d.forward, d.way) for d in service.destinations] == [("gate", None), ("ipip", WAY)]
    assert service.fallback == Destination(IPv4Address("10.0.0.9"), 1, None, forward="ipip", way=WAY)
    assert plan.reached_by(cluster, "ipip") == {WEB2, IPv4Address("10.0.0.9")}
