"""The layouts that C and Python share. A change here changes what an adopted map means; it must be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lb.datapath import source
from lb.datapath.compiler import EMBRYOS, TABLES
from lb.service import Service
from tests.packet.world import NODE, TCP6_KEY, TCP_KEY, World

GOLDEN = """\
connections.key 16
  client >u4 at 0
  virtual >u4 at 4
  client_port >u2 at 8
  virtual_port >u2 at 10
  protocol |u1 at 12
  template |u1 at 13
  zero |u1*2 at 14
connections.value 16
  real <u4 at 0
  last_seen_t <u4 at 4
  synced_t <u4 at 8
  state |u1 at 12
  zero |u1*3 at 13
connections6.key 40
  client >u8*2 at 0
  virtual >u8*2 at 16
  client_port >u2 at 32
  virtual_port >u2 at 34
  protocol |u1 at 36
  template |u1 at 37
  zero |u1*2 at 38
embryos.value 32
  key |V16 at 0
  seen_m <u4 at 16
  real <u2 at 20
  state |u1 at 22
  zero |u1 at 23
  check <u4 at 24
  gone <u4 at 28
embryos6.value 64
  key |V40 at 0
  seen_m <u4 at 40
  real <u2 at 44
  state |u1 at 46
  zero |u1 at 47
  check <u4 at 48
  gone <u4 at 52
  unused <u8 at 56
reals.value 48
  mac |u1*6 at 0
  weight <u2 at 6
  flags |u1 at 8
  protocol |u1 at 9
  virtual_port >u2 at 10
  zero <u4 at 12
  address >u8*2 at 16
  virtual >u8*2 at 32
ways.value 32
  source >u8*2 at 0
  interface <u4 at 16
  own_mac |u1*6 at 20
  mtu <u2 at 26
  zero <u4 at 28
real_stats.value 24
  packets <u8 at 0
  bytes <u8 at 8
  connections <u8 at 16
services.value 40
  virtual >u8*2 at 0
  virtual_port >u2 at 16
  protocol |u1 at 18
  flags |u1 at 19
  scheduler |u1*8 at 20
  persistent_s <u4 at 28
  netmask |u1 at 32
  zero |u1*5 at 33
  leader <u2 at 38
counters.value 168
  tx_packets <u8 at 0
  passed <u8 at 8
  redirected <u8 at 16
  referred <u8 at 24
  too_big <u8 at 32
  unreachable <u8 at 40
  set_aside <u8 at 48
  drop_no_real <u8 at 56
  drop_no_neighbour <u8 at 64
  drop_fragment <u8 at 72
  drop_malformed <u8 at 80
  drop_no_lease <u8 at 88
  drop_table_full <u8 at 96
  drop_too_big <u8 at 104
  drop_no_headroom <u8 at 112
  drop_real_gone <u8 at 120
  drop_denied <u8 at 128
  drop_too_fast <u8 at 136
  arp_no_lease <u8 at 144
  nd_no_lease <u8 at 152
  events_lost <u8 at 160
answered.value 8
  tick <u4 at 0
  count <u4 at 4
lease.value 64
  until_ns <u8 at 0
  refer_until_ns <u8 at 8
  directors |u1*42 at 16
  zero |u1*6 at 58
epochs.value 4
  number <u4 at 0
loads.value 32
  active <i4 at 0
  inactive <i4 at 4
  active_fix <i4 at 8
  inactive_fix <i4 at 12
  upper <u4 at 16
  lower <u4 at 20
  full <u4 at 24
  repeats <u4 at 28
datagrams.value 12
  real <u4 at 0
  seen_t <u4 at 4
  first_bytes <u4 at 8
paces.value 8
  tick <u4 at 0
  count <u4 at 4
"""

DATAGRAM = """\
datagram_key 40
  client >u8*2 at 0
  virtual >u8*2 at 16
  id >u4 at 32
  protocol |u1 at 36
  zero |u1*3 at 37
"""

EARLY = """\
early 2048
  datagram |V40 at 0
  length <u4 at 40
  unused <u4 at 44
  words <u8*250 at 48
"""

EVENTS = """\
event 32
  key |V16 at 0
  real <u4 at 16
  last_seen_t <u4 at 20
  state <u4 at 24
  unused <u4 at 28
event6 56
  key |V40 at 0
  real <u4 at 40
  last_seen_t <u4 at 44
  state <u4 at 48
  unused <u4 at 52
"""


def printed(name: str, kind: np.dtype[Any]) -> str:
    """One line a field."""
    lines = [f"{name} {kind.itemsize}"]
    for field, (inner, offset, *_) in (kind.fields or {}).items():
        count = f"*{inner.shape[0]}" if inner.shape else ""
        lines.append(f"  {field} {inner.base.str}{count} at {offset}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def both() -> Iterator[World]:
    """A program of both families."""
    world = World.open(f"{NODE}.both")
    try:
        world.apply(Service(TCP_KEY, "rr", ()), Service(TCP6_KEY, "rr", ()))
        yield world
    finally:
        world.close()


def test_maps(both: World) -> None:
    maps = both.maps
    kinds = {"connections.key": maps["connections"].key, "connections.value": maps["connections"].value}
    kinds |= {"connections6.key": maps["connections6"].key}
    kinds |= {f"{name}.value": maps[name].value["ways"].base for name in EMBRYOS}
    families = {*TABLES, *EMBRYOS}
    kinds |= {f"{name}.value": opened.value for name, opened in maps.items() if name not in families}
    assert maps["connections6"].value == maps["connections"].value
    assert "".join(printed(name, kind) for name, kind in kinds.items()) == GOLDEN


def test_events(both: World) -> None:
    rings = both.data._rings
    assert printed("event", rings["events"].record) + printed("event6", rings["events6"].record) == EVENTS


def test_fragments(both: World) -> None:
    assert both.data._earlies is not None
    assert printed("early", both.data._earlies.record) == EARLY
    assert printed("datagram_key", both.maps["datagrams"].key) == DATAGRAM


def test_no_name_is_both_in_wire_and_in_host_order() -> None:
    text = source._read("abi.h")
    hosts = set(re.findall(r"^\t__[us](?:16|32|64) (\w+)", text, re.MULTILINE))
    assert source.wire_fields() == {
        "client",
        "virtual",
        "client_port",
        "virtual_port",
        "address",
        "source",
        "destination",
        "denied",
        "id",
    }
    assert not source.wire_fields() & hosts
