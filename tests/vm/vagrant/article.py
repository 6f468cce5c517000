"""What the old articles on Ultra Monkey had their readers try, in lbctl's words: each a line that holds or does not.

there                                  here
ip addr sh eth0                        ip address on both directors: who has the virtual address
ldirectord ldirectord.cf status        the unit runs; lbctl status
ipvsadm -L -n                          lbctl list
LVSSyncDaemonSwap master status        lbctl status: sync
stop httpd on one real, on both        stop nginx there; the client asks
heartbeat stop, heartbeat start        stop and start the unit
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.vm.vagrant.cluster import Hosts
from tests.vm.vagrant.machines import MachineError, wait_until

NOTICED_S = 120.0
"""Until a check has told that a server has gone or come back, on a slow machine."""
TAKEN_OVER_S = 60.0


@dataclass(frozen=True, slots=True)
class Line:
    """One trial. found: what was seen instead when it failed."""

    tried: str
    held: bool
    found: str
    seconds: float


def expect(condition: bool, found: object) -> None:
    """Raises MachineError, which says what was found, unless the condition holds."""
    if not condition:
        raise MachineError(str(found))


def addresses(hosts: Hosts) -> None:
    """the active director has the virtual address, the standby its own only"""
    active = hosts.active()
    holders = [director.name for director in hosts.directors if hosts.has_address(director)]
    expect(holders == [active.name], f"{active.name} is active, and {hosts.address} is on {holders}")


def running(hosts: Hosts) -> None:
    """lbctl runs under its unit on both directors, one active and one standby"""
    units = {director.name: director.run("systemctl is-active lbctl").stdout.strip() for director in hosts.directors}
    expect(set(units.values()) == {"active"}, units)
    roles = hosts.roles()
    expect(sorted(roles.values()) == ["active", "standby"], roles)


def prepared(hosts: Hosts) -> None:
    """the reals hold the virtual address on lo and are silent about it, by their unit"""
    for real in hosts.reals:
        unit = real.run("systemctl is-active lbctl-realserver").stdout.strip()
        expect(unit == "active", f"{real.name}: the unit is {unit}")
        expect(hosts.address in real.output("ip -o address show dev lo"), f"{real.name}: lo lacks {hosts.address}")
        ignore, announce = real.output("sysctl -n net.ipv4.conf.all.arp_ignore net.ipv4.conf.all.arp_announce").split()
        expect((ignore, announce) == ("1", "2"), f"{real.name}: arp_ignore {ignore}, arp_announce {announce}")


def table(hosts: Hosts) -> None:
    """lbctl list has the virtual with rr and both reals, Route, weight 1, and no fallback"""
    said = hosts.active().output("lbctl list")
    rows = [line.split()[:4] for line in said.splitlines()[3:]]
    virtual, *reals = rows
    expect(virtual[:3] == ["TCP", f"{hosts.address}:80", "rr"], said)
    wanted = [["->", f"{real.address}:80", "Route", "1"] for real in hosts.cluster.virtuals[0].reals]
    expect(reals == wanted, said)


def synced(hosts: Hosts) -> None:
    """the standby holds the active's connections"""
    sync = hosts.other(hosts.active()).status()["sync"]
    expect(sync["state"] == "in-sync", sync)


def in_turn(hosts: Hosts) -> None:
    """the client is served by both reals in turn"""
    answers = hosts.answers(8)
    expect(answers == {real.name: 4 for real in hosts.reals}, dict(answers))


def one_server_stops(hosts: Hosts) -> None:
    """with nginx stopped on one real the other serves alone; started again it has its share"""
    gone, stays = hosts.reals[0], hosts.reals[1]
    gone.output("systemctl stop nginx")
    _until_answered_by(hosts, {stays.name})
    gone.output("systemctl start nginx")
    _until_answered_by(hosts, {gone.name, stays.name})


def all_servers_stop(hosts: Hosts) -> None:
    """with nginx stopped on both the active director's own page says sorry, until they are back"""
    for real in hosts.reals:
        real.output("systemctl stop nginx")
    _until_answered_by(hosts, {f"Sorry: no web server is up. {hosts.active().name}"})
    for real in hosts.reals:
        real.output("systemctl start nginx")
    _until_answered_by(hosts, {real.name for real in hosts.reals})


def stop_active(hosts: Hosts) -> None:
    """with lbctl stopped on the active director the other takes over; started again it stays standby"""
    active = hosts.active()
    other = hosts.other(active)
    active.output("systemctl stop lbctl")
    expect(not hosts.has_address(active), f"{active.name} still has {hosts.address}")
    wait_until(f"{other.name} has the address", lambda: hosts.has_address(other), TAKEN_OVER_S)
    expect(set(hosts.answers(4)) == {real.name for real in hosts.reals}, "the client is not served as before")
    active.output("systemctl start lbctl")
    hosts.wait_until_whole()
    expect(hosts.active() is other, f"{active.name} is active again, though auto_failback is off")


def _until_answered_by(hosts: Hosts, names: set[str]) -> None:
    def so() -> bool:
        return set(hosts.answers(4)) == names

    wait_until(f"answers by {', '.join(sorted(names))} alone", so, NOTICED_S)


TRIALS: tuple[Callable[[Hosts], None], ...] = (
    *(addresses, running, prepared, table, synced, in_turn),
    *(one_server_stops, all_servers_stop, stop_active),
)


def try_all(hosts: Hosts) -> Iterator[Line]:
    """Each trial in its turn; what one leaves undone the next one may find."""
    for trial in TRIALS:
        began_s = time.monotonic()
        found = ""
        try:
            trial(hosts)
        except MachineError as error:
            found = str(error)
        yield Line(trial.__doc__ or trial.__name__, not found, found, round(time.monotonic() - began_s, 1))
