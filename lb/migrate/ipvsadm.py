"""What `ipvsadm -S` prints, a command a line (SEED_TABLES 6.1). Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lb import catalog
from lb.migrate.draft import Draft, Table, Virtual
from lb.migrate.ends import MARK, MASQ, PortOf, other_port, parse_end, prefix_length

_LONG = {
    "--add-service": "-A", "--add-server": "-a", "--tcp-service": "-t", "--udp-service": "-u", "--fwmark-service": "-f",
    "--sctp-service": "--sctp", "--scheduler": "-s", "--persistent": "-p", "--netmask": "-M", "--sched-flags": "-b",
    "--ops": "-o", "--real-server": "-r", "--gatewaying": "-g", "--ipip": "-i", "--masquerading": "-m",
    "--weight": "-w", "--u-threshold": "-x", "--l-threshold": "-y", "--ipv6": "-6",
}  # fmt: skip
_WITH_VALUE = frozenset(
    {"-t", "-u", "-f", "--sctp", "-s", "-M", "-b", "-r", "-w", "-x", "-y", "--pe", "--tun-type", "--tun-port"}
)
_BARE = frozenset({"-A", "-a", "-p", "-o", "-g", "-i", "-m", "-6"})
_PERSISTENT_S = 300
_PROTOCOLS = {"-t": "tcp", "-u": "udp"}

Options = dict[str, str]


def translate(text: str, port_of: PortOf) -> Draft:
    """What the commands come to."""
    draft = Draft()
    virtuals: dict[tuple[str, str], Virtual] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        try:
            options = _options(shlex.split(raw))
            _command(draft, virtuals, options, number, raw.strip(), port_of)
        except ValueError as error:
            draft.note(number, raw.strip(), f"{error}; left out")
    if virtuals:
        draft.note(0, "checks", "there were none: now the reals are asked whether they take connections")
    return draft


def _options(words: Sequence[str]) -> Options:
    found: Options = {}
    rest = [word for word in words if word not in ("ipvsadm", "/sbin/ipvsadm")]
    while rest:
        word = rest.pop(0)
        option = _LONG.get(word, word)
        if (option in _WITH_VALUE and rest) or (option == "-p" and rest and rest[0].isdecimal()):
            found[option] = rest.pop(0)
        elif option in _BARE:
            found[option] = ""
        else:
            raise ValueError(f"{word!r} is not understood")
    return found


def _command(
    draft: Draft, virtuals: dict[tuple[str, str], Virtual], options: Options, line: int, said: str, port_of: PortOf
) -> None:
    kind = next((option for option in _PROTOCOLS if option in options), None)
    if kind is None:
        raise ValueError(MARK if "-f" in options else "it is neither for tcp nor for udp")
    name = kind, options[kind]
    if "-A" in options:
        virtuals[name] = _virtual(draft, options, kind, line, said, port_of)
        draft.virtuals.append(virtuals[name])
    elif "-a" in options and name in virtuals:
        virtuals[name].reals.append(_real(draft, virtuals[name], options, line, said, port_of))
    else:
        raise ValueError("no service was added before" if "-a" in options else "neither adds a service nor a server")


def _virtual(draft: Draft, options: Options, kind: str, line: int, said: str, port_of: PortOf) -> Virtual:
    protocol = _PROTOCOLS[kind]
    end = parse_end(options[kind], protocol, port_of)
    scheduler = options.get("-s", "wlc")
    if scheduler not in catalog.available(catalog.SCHEDULERS):
        draft.note(line, said, f"scheduler {scheduler!r} is not there; wlc is taken instead")
        scheduler = "wlc"
    own: Table = {
        "name": draft.name(f"{protocol}-{end.port or 'all'}"), "address": str(end.address), "port": end.port or 0,
        "protocol": protocol, "scheduler": scheduler,
    }  # fmt: skip
    if "-b" in options:
        own["flags"] = [flag for flag in options["-b"].split(",") if flag in catalog.FLAGS]
    if "-p" in options:
        own["persistent"] = f"{options['-p'] or _PERSISTENT_S}s"
        if "-M" in options:
            own["netmask"] = prefix_length(options["-M"])
    if "-o" in options:
        own["one_packet"] = True
    if "--pe" in options:
        draft.note(line, said, "persistence engines are not there; clients are known by their addresses")
    return Virtual(own, {} if end.port else {"type": "ping"})


def _real(draft: Draft, virtual: Virtual, options: Options, line: int, said: str, port_of: PortOf) -> Table:
    if "-r" not in options:
        raise ValueError("names no server")
    end = parse_end(options["-r"], str(virtual.own["protocol"]), port_of)
    if "-m" in options:
        draft.note(line, said, MASQ)
    if end.port not in (None, 0, virtual.own["port"]):
        draft.note(line, said, other_port("the real", virtual.own["port"], end.port))
    if options.get("--tun-type", "ipip") != "ipip":
        draft.note(line, said, f"a tunnel of type {options['--tun-type']} is not there; ipip is taken instead")
    real: Table = {"address": str(end.address), "weight": int(options.get("-w", "1"))}
    if "-i" in options:
        real["forward"] = "ipip"
    for option, key in (("-x", "upper"), ("-y", "lower")):
        if int(options.get(option, "0")):
            real[key] = int(options[option])
    return real
