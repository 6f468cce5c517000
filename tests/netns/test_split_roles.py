"""Both directors are active, each for one virtual, and standby for the other's: taking over, coming back, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import Traffic, run_in, status, wait_until
from tests.netns.cluster import lbctl

CONF = Path(__file__).parents[2] / "conf" / "cluster.toml"
ONE, TWO = "192.168.1.105", "192.168.1.106"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example's cluster with a second virtual that prefers lb2."""
    directory = tmp_path_factory.mktemp("split")
    path = directory / "cluster.toml"
    head, virtual = CONF.read_text().replace("auto_failback = false", "auto_failback = true").split("[[virtual]]")
    second = virtual.replace('"web"', '"web2"\npreferred = "lb2"').replace(ONE, TWO)
    path.write_text(f"{head}[[virtual]]{virtual}\n[[virtual]]{second}")
    lbctl("authkeys", str(directory / "authkeys"))
    try:
        lbctl("lab", "up", str(path))
        yield path
    finally:
        lbctl("lab", "down", str(path))


def roles(node: str) -> list[str]:
    """Of ONE and of TWO."""
    return [role["role"] for role in status(node).get("roles", [])]


def wait_for_split() -> None:
    """Each has its own."""
    wait_until("lb1 is whole", lambda: roles("lb1") == ["active", "standby"])
    wait_until("lb2 is whole", lambda: roles("lb2") == ["standby", "active"])
    wait_until("the pair is whole", lambda: observe.is_settled("lb1", "lb2"))


def addresses(node: str) -> set[str]:
    """Those of ONE and TWO that are on its interface."""
    return {ONE, TWO} & {word.split("/")[0] for word in run_in(node, "ip", "-br", "-4", "address").split()}


def test_each_is_active_for_its_own(lab: Path) -> None:  # noqa: ARG001
    wait_for_split()
    assert (addresses("lb1"), addresses("lb2")) == ({ONE}, {TWO})
    for address in (ONE, TWO):
        assert observe.answers(4, f"http://{address}/").keys() == {"web1", "web2"}
    assert [(role["preferred"], role["active"], role["addresses"]) for role in status("lb2")["roles"]] == [
        ("lb1", "lb1", [ONE]),
        ("lb2", "lb2", [TWO]),
    ]


def test_a_dead_director_is_replaced_and_comes_back_to_its_own(lab: Path) -> None:
    wait_for_split()
    with Traffic(ONE, seconds=8) as one, Traffic(TWO, seconds=8) as two:
        lbctl("lab", "kill", "lb2")
        wait_until("lb1 has both", lambda: roles("lb1") == ["active", "active"])
    assert (one.seen.download_ok, one.seen.failures) == (True, 0), "nothing has happened to the first"
    assert two.seen.download_ok
    assert addresses("lb1") == {ONE, TWO}
    with Traffic(ONE, seconds=20) as one, Traffic(TWO, seconds=20) as two:
        lbctl("lab", "up", str(lab))
        wait_for_split()
    assert one.seen.download_ok
    assert two.seen.download_ok
    assert (addresses("lb1"), addresses("lb2")) == ({ONE}, {TWO})


def test_by_hand_one_or_all(lab: Path) -> None:  # noqa: ARG001
    wait_for_split()
    with Traffic(ONE, seconds=10) as one, Traffic(TWO, seconds=10) as two:
        lbctl("standby", "web", "--node", "lb1")
        assert (roles("lb1"), roles("lb2")) == (["standby", "standby"], ["active", "active"])
        lbctl("takeover", "--node", "lb1")
        assert (roles("lb1"), roles("lb2")) == (["active", "active"], ["standby", "standby"])
        lbctl("takeover", "web2", "--node", "lb2")
        assert (roles("lb1"), roles("lb2")) == (["active", "standby"], ["standby", "active"])
    for traffic in (one, two):
        assert traffic.seen.download_ok
    assert "preferred: lb2" in lbctl("status", "--node", "lb1").stdout


def test_to_prefer_another_needs_a_restart(lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "cluster.toml"
    other.write_text(lab.read_text().replace('preferred = "lb2"\n', ""))
    (tmp_path / "authkeys").write_bytes((lab.parent / "authkeys").read_bytes())
    (tmp_path / "authkeys").chmod(0o600)
    refused = lbctl("reload", str(other), "--node", "lb1", exit_status=2)
    assert "needs 'lbctl down' and 'lbctl up'" in refused.stderr
