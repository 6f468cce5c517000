"""TOML values into the model, and everything that is wrong with their shape, in our own words.

pydantic finds the problems (types, ranges, missing and unknown keys); this module says them as the file's author
needs them: the value, what is accepted, and where a misplaced key belongs.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lb import model
from lb.positions import Finding, Path
from lb.wording import BOOLEANS, SECRETS, closest, did_you_mean, show

SECTIONS: dict[Path, tuple[str, type[BaseModel]]] = {
    (): ("the top level", model.Cluster),
    ("cluster",): ("[cluster]", model.ClusterSettings),
    ("node",): ("[[node]]", model.Node),
    ("ha",): ("[ha]", model.Ha),
    ("connections",): ("[connections]", model.Connections),
    ("alerts",): ("[alerts]", model.Alerts),
    ("limits",): ("[limits]", model.Limits),
    ("limits", "deny"): ("[[limits.deny]]", model.DenyList),
    ("virtual",): ("[[virtual]]", model.Virtual),
    ("virtual", "alerts"): ("[virtual.alerts]", model.OwnAlerts),
    ("virtual", "check"): ("[virtual.check]", model.Check),
    ("virtual", "check", "part"): ("[[virtual.check.part]]", model.Question),
    ("virtual", "real"): ("[[virtual.real]]", model.Real),
}
"""Each section of the file: how it is headed, and its model."""

FORMER_NAMES = {
    "checktype": "type in [virtual.check]",
    "checkinterval": "interval in [virtual.check]",
    "checktimeout": "timeout in [virtual.check]",
    "negotiatetimeout": "timeout in [virtual.check]",
    "failurecount": "failures in [virtual.check]",
    "checkport": "port in [virtual.check]",
    "httpmethod": "method in [virtual.check]",
    "fallbackcommand": "fallback_command in [[virtual]]",
    "maintenancedir": "maintenance in [cluster]",
    "checkcommand": "command in [virtual.check]",
    "misc_path": "command in [virtual.check]",
    "connect_port": "port in [virtual.check]",
    "helo_name": "request in [virtual.check]",
    "payload": "request_hex in [virtual.check]",
    "require_reply": "receive_hex in [virtual.check]",
    "regex_no_match": "refuse in [virtual.check]",
    "status_code": "status in [virtual.check]",
    "sni_name": "sni in [virtual.check]",
    "schedflags": "flags in [[virtual]]",
    "fwmark": "also = […] in [[virtual]]",
    "uthreshold": "upper in [[virtual.real]]",
    "lthreshold": "lower in [[virtual.real]]",
    "udpport": "port in [ha]",
    "auto-failback": "auto_failback in [ha]",
    "bcast": "broadcast in [ha]",
    "mcast": "multicast in [ha]",
    "ucast": "address, or links, in [[node]]",
    "emailalert": "email in [alerts]",
    "emailalertfrom": "email_from in [alerts]",
    "emailalertfreq": "repeat in [alerts]",
    "emailalertstatus": "phases in [alerts]",
    "callback": "command in [alerts]",
    "reals": "a [[virtual.real]] each",
    "nodes": "a [[node]] each",
    "virtuals": "a [[virtual]] each",
}
"""What ldirectord, heartbeat or a plural call it, where that is not the name here."""

EXAMPLES = {
    "interface": 'interface = "eth0"',
    "name": 'name = "web1"',
    "address": 'address = "192.168.1.101"',
    "port": "port = 80",
    "cluster": '[cluster] with interface = "eth0"',
    "prefixes": 'prefixes = ["192.0.2.0/24"]',
    "node": 'a [[node]] with name = "lb1" and address = "192.168.1.103" for each director',
}
"""What to write for each key that has no default."""

REAL_PORT = (
    "a real has no port of its own: with forward 'gate' and 'ipip' it gets packets as the client sent them, so it "
    "answers on the virtual's own port; remove this key, and let the server listen on that port"
)

_NUMBER = re.compile(r"-?[0-9]{1,20}")

_STAND_INS: dict[str, Any] = {
    "cluster": {},
    "node": [],
    "name": "unknown",
    "interface": "unknown",
    "address": "0.0.0.0",
    "port": 1,
    "prefixes": [],
}
"""Something acceptable for keys that have no default."""
_STAND_IN_ELEMENTS: dict[object, Any] = {
    "ping": "0.0.0.0",
    "status": 200,
    "links": "0.0.0.0",
    "real_interfaces": "unknown",
    "broadcast": "unknown",
    "multicast": "unknown",
    "resources": "/bin/true",
    "notify": "/bin/true",
    "command": "true",
    "email": "nobody@example.com",
    "states": "up",
    "phases": "running",
    "flags": "sh-port",
    "also": "0.0.0.0:0",
    "prefixes": "0.0.0.0",
    "vlans": 1,
}
"""The same for elements of arrays that are not tables."""
_EXAMPLE_ELEMENTS: dict[object, str] = {
    "email": '"ops@example.com"',
    "states": '"down"',
    "phases": '"running"',
    "status": "200",
    "real_interfaces": '"eth1"',
    "broadcast": '"eth1"',
    "multicast": '"eth1"',
    "resources": '"/usr/local/sbin/program"',
    "notify": '"/usr/local/sbin/program"',
    "flags": '"sh-port"',
    "also": '"192.168.1.105:443"',
    "command": '"/usr/local/bin/check", "--quick"',
    "prefixes": '"192.0.2.0/24"',
    "vlans": "10",
}


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys a section may have, in the model's order."""
    return [field.alias or name for name, field in section.model_fields.items() if not field.exclude]


def build(values: dict[str, Any], file: FilePath) -> tuple[model.Cluster, list[Finding]]:
    """The cluster that `values` (which are used up) describe, and what is wrong with their shape.

    With findings the cluster is a stand-in: every broken value was replaced by something acceptable, so that the
    rules can still look at the rest. What a rule says about a place in the findings must not be believed.
    """
    findings: list[Finding] = []
    if "path" in values:
        findings.append(Finding((("path",),), _unknown_key(("path",))))
    values["path"] = file
    while True:
        try:
            return model.Cluster.model_validate(values, context={"directory": file.parent}), findings
        except ValidationError as error:
            details = error.errors(include_url=False)
        known = {finding.places[0] for finding in findings}
        for detail in details:
            place = detail["loc"]
            if not any(place[:depth] in known for depth in range(len(place))):
                findings.append(Finding((place,), _message(detail)))
            _mend(values, detail)


def _mend(values: Any, detail: ErrorDetails) -> None:
    """Put something acceptable where a value was refused, or nothing where the key has a default."""
    *parents, key = detail["loc"]
    for parent in parents:
        values = values[parent]
    if isinstance(key, int):
        values[key] = _STAND_IN_ELEMENTS.get(parents[-1], {})
    elif key in _STAND_INS and detail["type"] != "extra_forbidden":
        values[key] = deepcopy(_STAND_INS[key])
    else:
        del values[key]


def _message(detail: ErrorDetails) -> str:
    value, place = detail["input"], detail["loc"]
    if place[-1] in SECRETS and detail["type"] == "string_type":
        return "is not text (it is not shown here); write it in quotes"
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "missing":
            return f"is missing; add {EXAMPLES[str(place[-1])]}"
        case "extra_forbidden":
            return _unknown_key(place)
        case "literal_error":
            return _not_a_choice(value, re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
        case "int_type":
            hint = f"; write {value} without quotes" if isinstance(value, str) and _NUMBER.fullmatch(value) else ""
            return f"{show(value)} is not a whole number{hint}"
        case "bool_type":
            word = BOOLEANS.get(value.lower()) if isinstance(value, str) else None
            return f"{show(value)} is not true or false" + (f"; write {word} without quotes" if word else "")
        case "tuple_type" | "model_type":
            return _wrong_table(place, value)
        case _:
            text = show(value)
            hint = f': "{text}"' if isinstance(value, (int, float)) and " " not in text else ""
            return f"{text} is not text; write it in quotes{hint}"


def _not_a_choice(value: object, choices: list[str]) -> str:
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"{show(value)} is not one of {', '.join(choices)}{hint}"


def _wrong_table(place: Path, value: object) -> str:
    section = _section(place)
    if section not in SECTIONS:
        return f"{show(value)} is not an array; write it in brackets, like [{_element(place)}]"
    heading = SECTIONS[section][0]
    if isinstance(value, (dict, list)):
        return f"is {show(value)}; write {heading}, with {'double' if '[[' in heading else 'single'} brackets"
    return f"{show(value)} is not a table; write {heading} and its keys below"


def _element(place: Path) -> str:
    return _EXAMPLE_ELEMENTS.get(place[-1], '"192.168.1.1"')


def _section(place: Path) -> Path:
    return tuple(part for part in place if isinstance(part, str))


def _unknown_key(place: Path) -> str:
    section, key = _section(place[:-1]), str(place[-1])
    if section == ("virtual", "real") and key == "port":
        return REAL_PORT
    heading, own = SECTIONS[section][0], keys_of(SECTIONS[section][1])
    return f"unknown key in {heading}; " + (
        _heading_for(key) or _place_for(key) or _former(key) or _close(key, own) or f"its keys are {', '.join(own)}"
    )


def _heading_for(key: str) -> str:
    headings = [heading for path, (heading, _) in SECTIONS.items() if path and path[-1] == key]
    return f"write it as {headings[0]}" if headings else ""


def _place_for(key: str) -> str:
    places = [heading for heading, section in SECTIONS.values() if key in keys_of(section)]
    return f"it belongs in {' or '.join(places)}" if places else ""


def _former(key: str) -> str:
    return f"here it is {FORMER_NAMES[key]}" if key in FORMER_NAMES else ""


def _close(key: str, own: list[str]) -> str:
    """The key that was probably meant; one of another section only if it is very much like this one."""
    if close := closest(key, own):
        return f"did you mean {show(close)}?"
    headings = {name: heading for heading, section in SECTIONS.values() for name in keys_of(section)}
    close = closest(key, headings, likeness=0.8)
    return f"did you mean {show(close)} in {headings[close]}?" if close else ""
