"""external, ping, and what `all` and `any` make of several questions."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lb.model import Question
from lb.probes import NotAskedError, ask, open_tools
from tests.probes.asking import SHORT, SHORT_S, judge, judge_served, once, outcome, target
from tests.servers import free_port, serve, silent, until


def program(directory: Path, text: str) -> tuple[str, ...]:
    """A shell script."""
    path = directory / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (str(path),)


class TestExternal:
    def test_ldirectords_arguments(self, tmp_path: Path) -> None:
        command = program(tmp_path, 'echo "$# $*"')
        assert judge(80, type="external", command=command) == (True, "4 192.168.1.105 80 127.0.0.1 80")
        assert judge(80, type="external", command=(*command, "-x"))[1] == "5 -x 192.168.1.105 80 127.0.0.1 80"

    @pytest.mark.parametrize(
        ("text", "verdict"),
        [
            ("exit 0", (True, "exit status 0")),
            ("exit 3", (False, "exit status 3")),
            ("echo all is well; echo really", (True, "all is well")),
            ("echo out of beer >&2; exit 1", (False, "exit status 1: out of beer")),
            ("printf 'a\\033[1mb'; exit 1", (False, "exit status 1: a?[1mb")),
            ("kill -USR1 $$", (False, "killed by SIGUSR1")),
        ],
    )
    def test_what_it_says_and_how_it_ends(self, tmp_path: Path, text: str, verdict: tuple[bool, str]) -> None:
        assert judge(80, type="external", command=program(tmp_path, text)) == verdict

    def test_its_environment(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        command = program(tmp_path, f"env | grep LBCTL_ | sort > {out}")
        asked = {"type": "external", "command": command, "login": "jane", "passwd": "hunter2", "timeout": 7.5}
        assert judge(80, None, "udp", **asked) == (True, "exit status 0")
        assert out.read_text().split() == [
            "LBCTL_LOGIN=jane", "LBCTL_PASSWD=hunter2", "LBCTL_PROTOCOL=udp", "LBCTL_REAL=127.0.0.1",
            "LBCTL_REAL_PORT=80", "LBCTL_TIMEOUT=7.5", "LBCTL_VIRTUAL=192.168.1.105", "LBCTL_VIRTUAL_PORT=80",
        ]  # fmt: skip

    def test_nothing_of_ours_is_inherited(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OUR_SECRET", "x")
        text = 'test -z "$OUR_SECRET" && ls /proc/self/fd | tr "\\n" " "'
        assert judge(80, type="external", command=program(tmp_path, text)) == (True, "0 1 2 3")

    def test_the_password_is_not_shown(self, tmp_path: Path) -> None:
        command = program(tmp_path, 'echo "wrong: $LBCTL_PASSWD"; exit 1')
        verdict = judge(80, type="external", command=command, passwd="hunter2")
        assert verdict == (False, "exit status 1: wrong: ***")

    def test_it_is_killed_with_its_children_when_its_time_is_over(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        command = program(tmp_path, f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait")
        assert judge(80, type="external", command=command, timeout=2.0) == (False, "no answer within 2s")
        assert len(pids.read_text().split()) == 2
        assert_gone(pids)

    def test_what_it_leaves_behind_is_killed_and_not_waited_for(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        command = program(tmp_path, f"sleep 60 & echo $! > {pids}; echo fine")
        assert judge(80, type="external", command=command) == (True, "fine")
        assert_gone(pids)

    def test_one_that_says_very_much_does_not_hang(self, tmp_path: Path) -> None:
        """Nor does it see an error, as it would if nobody took what it says."""
        command = program(tmp_path, "set -e; yes | head -c 5000000; head -c 5000000 /dev/zero; exit 0")
        assert judge(80, type="external", command=command) == (True, "y")

    @pytest.mark.parametrize(
        ("status", "ok", "weight"), [(0, True, None), (1, False, None), (2, True, 0), (42, True, 40), (255, True, 253)]
    )
    def test_a_weight_by_exit_status(self, tmp_path: Path, status: int, ok: bool, weight: int | None) -> None:
        said = outcome(80, type="external", command=program(tmp_path, f"exit {status}"), dynamic_weight=True)
        assert (said.ok, said.weight) == (ok, weight)

    @pytest.mark.parametrize(("mode", "reason"), [(None, "no such file"), (0o644, "permission denied")])
    def test_one_that_cannot_be_run_is_our_own_fault_and_no_verdict(
        self, tmp_path: Path, mode: int | None, reason: str
    ) -> None:
        path = tmp_path / "check"
        if mode:
            path.touch(mode)
        with pytest.raises(NotAskedError, match=f"cannot be run: {reason}"):
            judge(80, type="external", command=(str(path),))


def assert_gone(pids: Path) -> None:
    async def main() -> None:
        await until(lambda: not any(map(alive, pids.read_text().split())))

    asyncio.run(main())


def alive(pid: str) -> bool:
    """Is it there, and more than what waits to be reaped?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestPing:
    def test_loopback_answers(self) -> None:
        assert judge(0, type="ping") == (True, "echoed")

    def test_over_ipv6(self) -> None:
        """Also without ping sockets, which not every kernel gives away."""
        six = replace(target(0, type="ping"), address=IPv6Address("::1"))
        assert uvloop.run(once(six)).reason == "echoed"

    def test_many_at_once_are_told_apart(self) -> None:
        async def main() -> list[bool]:
            tools = open_tools()
            outcomes = await asyncio.gather(*(ask(target(0, type="ping"), tools) for _ in range(100)))
            await tools.close()
            return [outcome.ok for outcome in outcomes]

        assert all(uvloop.run(main()))


def part(**keys: Any) -> Question:
    return Question(**keys)


NOBODY = free_port()
PING = part(type="ping")
REFUSED = part(type="connect", port=NOBODY)


class TestSeveral:
    @pytest.mark.parametrize(
        ("type_", "parts", "verdict"),
        [
            ("all", (PING,), (True, "all passed")),
            ("all", (PING, PING), (True, "all passed")),
            ("all", (PING, REFUSED), (False, "connect: refused")),
            ("any", (PING, REFUSED), (True, "ping: echoed")),
            ("any", (REFUSED, PING), (True, "ping: echoed")),
            ("any", (REFUSED, REFUSED), (False, "connect: refused; connect: refused")),
        ],
    )
    def test_what_comes_of_them(self, type_: str, parts: tuple[Question, ...], verdict: tuple[bool, str]) -> None:
        assert judge(0, type=type_, part=parts) == verdict

    def test_each_has_its_own_port_or_the_checks(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            parts = (part(type="connect"), part(type="connect", port=other.getsockname()[1]))
            port = one.getsockname()[1]
            assert judge(port, type="all", part=parts) == (True, "all passed")
        assert judge(port, type="all", part=parts) == (False, "connect: refused")

    def test_one_that_hangs(self) -> None:
        parts = (part(type="negotiate"), PING)
        assert judge_served(silent, type="all", part=parts, timeout=SHORT_S) == (False, SHORT)
        assert judge_served(silent, type="any", part=parts) == (True, "ping: echoed")

    def test_a_decided_check_waits_for_nobody_and_leaves_nothing(self) -> None:
        async def main() -> tuple[bool, int]:
            async with serve(silent) as served:
                tools = open_tools()
                parts = (part(type="negotiate"), REFUSED)
                outcome = await ask(target(served.port, type="all", part=parts, timeout=60.0), tools)
                await tools.close()
                return outcome.ok, len(asyncio.all_tasks())

        ok, tasks = uvloop.run(main())
        assert not ok
        assert tasks <= 2  # this one, and the server's last

    def test_what_could_not_be_asked(self, tmp_path: Path) -> None:
        broken = part(type="external", command=(str(tmp_path / "nothing"),))
        with pytest.raises(NotAskedError):
            judge(0, type="all", part=(PING, broken))
        with pytest.raises(NotAskedError):
            judge(0, type="any", part=(REFUSED, broken))
        assert judge(0, type="any", part=(PING, broken)) == (True, "ping: echoed")
