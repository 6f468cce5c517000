"""What of the trials in virtual machines can be tried without any."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lb import config
from tests.vm.vagrant import box, image
from tests.vm.vagrant.cluster import stretched

ROOT = Path(__file__).parents[2]


def test_the_partition_begins_behind_the_loader_and_ends_with_the_disk() -> None:
    sector = image.partition_table(16_384)
    assert len(sector) == image.SECTOR
    assert sector[:446] == bytes(446)
    assert sector[446] == 0x80
    assert sector[450] == 0x83
    assert struct.unpack_from("<II", sector, 454) == (image.FIRST_SECTOR, 16_384 - image.FIRST_SECTOR)
    assert sector[462:510] == bytes(48)
    assert sector[510:] == b"\x55\xaa"


def test_a_box_has_another_name_when_what_it_is_made_from_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {box.name_for("bookworm"), box.name_for("trixie")}
    monkeypatch.setattr(box, "INPUTS", box.INPUTS[1:])
    assert len({*names, box.name_for("bookworm")}) == 3


def test_what_a_box_is_made_from_is_there() -> None:
    assert [name for name in box.INPUTS if not (ROOT / name).exists()] == []


def test_longer_times_are_those_of_directors_and_checks(tmp_path: Path) -> None:
    conf = tmp_path / "cluster.toml"
    conf.write_text((ROOT / "conf/cluster.toml").read_text())
    before = config.load(conf)
    stretched(conf, 3)
    after = config.load(conf)
    for name in ("keepalive", "warntime", "deadtime", "initdead"):
        assert getattr(after.ha, name) == pytest.approx(3 * getattr(before.ha, name))
    was, now = before.virtuals[0].check, after.virtuals[0].check
    assert (now.interval, now.timeout) == pytest.approx((3 * was.interval, 3 * was.timeout))
    assert after.virtuals[0].reals == before.virtuals[0].reals


@pytest.mark.parametrize("module", ["tests.vm.vagrant", "tests.vm.vagrant.box"])
def test_help_needs_neither_root_nor_machines(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "script/" in done.stdout
