"""What outlives a restart: read back as written, and never a reason not to start."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lb import state
from lb.plan import Override, Target
from lb.service import ServiceKey

WEB = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)
ONE: Target = (WEB, IPv4Address("192.168.1.101"))
TWO: Target = (WEB, IPv4Address("192.168.1.102"))


def test_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "lb1.state.json"
    overrides = {ONE: Override(weight=3), TWO: Override(drained=True)}
    state.save(path, overrides, {ONE: "up"})
    assert state.load(path) == (overrides, {ONE: "up", TWO: "unknown"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_was_written(tmp_path: Path) -> None:
    assert state.load(tmp_path / "lb1.state.json") == ({}, {})


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 2}', b'{"reals": [{"address": "x"}]}', b"\xff\x00"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "lb1.state.json"
    path.write_bytes(damage)
    assert state.load(path) == ({}, {})
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [damage]
    state.save(path, {}, {ONE: "up"})
    assert state.load(path) == ({}, {ONE: "up"})


def test_nothing_to_remember_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lb1.state.json"
    state.save(path, {ONE: Override(drained=True)}, {})
    state.save(path, {}, {})
    assert not path.exists()
