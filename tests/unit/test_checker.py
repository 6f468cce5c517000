"""The checker on a real loop against real servers: what runs beside what, what is kept, what does not count."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from lb.checker import AT_ONCE, Checker, TargetKey, next_due, phase_of
from lb.health import Health
from lb.model import Check
from lb.probes import Target
from lb.service import ServiceKey
from tests.servers import Served, free_port, open_files, page, says, serve, silent, until

LOOPBACK = IPv4Address("127.0.0.1")
QUICK: dict[str, Any] = {"interval": 0.02, "timeout": 5.0}
"""Checks that come often, and whose real may take its time on a busy machine."""

Changes = list[tuple[TargetKey, Health]]
Body = Callable[[Checker, Changes], Awaitable[None]]


def key_of(number: int) -> TargetKey:
    """Targets differ by the virtual's port; the real behind them may be the same."""
    return ServiceKey(IPv4Address("192.168.1.105"), number, 6), LOOPBACK


def target(number: int, port: int, check: Check) -> Target:
    return Target(LOOPBACK, port, check, key_of(number)[0])


def run(body: Body) -> tuple[Changes, list[structlog.typing.EventDict]]:
    """Run a test's body with a checker; gives the changes it reported and what it logged."""
    changes: Changes = []

    async def main() -> None:
        checker = Checker(lambda key, health, _change: changes.append((key, health)))
        try:
            await body(checker, changes)
        finally:
            await checker.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "close() must leave no probe behind"

    with structlog.testing.capture_logs() as logs:
        uvloop.run(main())
    return changes, logs


def states(changes: Changes, number: int = 1) -> list[str]:
    return [health.state for key, health in changes if key == key_of(number)]


@contextlib.asynccontextmanager
async def serve_at(port: int) -> AsyncIterator[Served]:
    """A server that accepts on this port, and counts. A check that only connects may have its answer before it is
    counted here: the kernel greets first, the server accepts later."""
    served = Served()

    async def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", port)
    try:
        yield served
    finally:
        server.close()


def test_up_down_and_up_again_as_its_server_comes_and_goes() -> None:
    port = free_port()

    async def body(checker: Checker, changes: Changes) -> None:
        checker.configure({key_of(1): target(1, port, Check(failures=2, **QUICK))})
        await until(lambda: states(changes) == ["down"])
        for expected in (["down", "up", "down"], ["down", "up", "down", "up", "down"]):
            server = await asyncio.start_server(close, "127.0.0.1", port)
            await until(lambda: states(changes)[-1] == "up")
            server.close()
            await until(lambda expected=expected: states(changes) == expected)  # type: ignore[misc]
        health = checker.health(key_of(1))
        assert health is not None
        assert (health.state, health.reason) == ("down", "refused")
        assert checker.snapshot() == {key_of(1): health}

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    _, logs = run(body)
    last = [entry for entry in logs if entry["event"] == "real is down"][-1]
    assert last["log_level"] == "warning"
    assert (last["real"], last["virtual"], last["check"]) == ("127.0.0.1", "tcp 192.168.1.105:1", "connect")
    assert (last["reason"], last["was"]) == ("refused", "up")
    assert last["lasted"].endswith("s")
    assert [entry["so_far"] for entry in logs if entry["event"] == "real is still up"] == ["1 of 2 failures"] * 2


def test_a_real_that_hangs_costs_its_own_slot_only() -> None:
    async def body(checker: Checker, changes: Changes) -> None:
        hanging = Check(type="negotiate", interval=0.02, timeout=60.0)
        async with serve(silent) as dead, serve(says(page(b"Test Page"))) as well:
            targets = {key_of(n): target(n, dead.port, hanging) for n in range(2, 52)}
            targets[key_of(1)] = target(1, well.port, Check(type="negotiate", receive="Test Page", **QUICK))
            checker.configure(targets)
            await until(lambda: dead.connections == 50 and well.connections >= 10)
            assert dead.connections == 50, "no second probe of a target while one runs"
            assert states(changes) == ["up"]
            assert {checker.snapshot()[key_of(n)].state for n in range(2, 52)} == {"unknown"}

    changes, _ = run(body)
    assert len(changes) == 1


def test_a_dead_real_is_found_while_others_hang() -> None:
    async def body(checker: Checker, changes: Changes) -> None:
        async with serve(silent) as dead:
            targets = {key_of(n): target(n, dead.port, Check(type="negotiate", timeout=60.0)) for n in range(2, 22)}
            targets[key_of(1)] = target(1, free_port(), Check(**QUICK))
            checker.configure(targets)
            await until(lambda: states(changes) == ["down"])

    run(body)


def test_every_one_of_two_thousand_is_checked() -> None:
    async def body(checker: Checker, changes: Changes) -> None:
        async with serve(says(page(b""))) as well:
            check = Check(interval=60.0, timeout=30.0)
            checker.configure({key_of(n): target(n, well.port, check) for n in range(1, 2001)})
            await until(lambda: len(changes) == 2000, within_s=30.0)
        assert {health.state for health in checker.snapshot().values()} == {"up"}

    run(body)


def test_a_real_that_is_down_has_an_interval_of_its_own() -> None:
    """Down, it is asked every 20 ms; up, once in a minute: it is found again soon, and then left alone."""

    async def body(checker: Checker, changes: Changes) -> None:
        port = free_port()
        check = Check(interval=60.0, down_interval=0.02, timeout=30.0)
        checker.configure({key_of(1): target(1, port, check)})
        await until(lambda: states(changes) == ["down"])
        async with serve_at(port) as well:
            await until(lambda: states(changes) == ["down", "up"] and well.connections == 1)
            with pytest.raises(TimeoutError):
                await until(lambda: well.connections > 1, within_s=0.2)

    run(body)


def test_a_real_that_is_held_down_is_said_once() -> None:
    async def body(checker: Checker, changes: Changes) -> None:
        port = free_port()
        check = Check(failures=1, rises=2, flaps=1, flap_window=3600.0, **QUICK)
        checker.seed({key_of(1): "up"})
        checker.configure({key_of(1): target(1, port, check)})
        await until(lambda: states(changes) == ["down"])
        async with serve_at(port) as well:
            await until(lambda: well.connections > 5)
            assert states(changes) == ["down"]
            assert checker.snapshot()[key_of(1)].reason == "passes, but is held down: it fell 1 times within 1h"

    _, logs = run(body)
    said = [entry["so_far"] for entry in logs if entry["event"] == "real is still down"]
    assert said == ["1 of 2 rises", "passes, but is held down: it fell 1 times within 1h"]


def test_a_weight_that_the_real_answers_is_reported_as_it_changes() -> None:
    async def body(checker: Checker, changes: Changes) -> None:
        answer = b"weight=7"

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await says(page(answer))(reader, writer)

        async with serve(tell) as well:
            check = Check(type="negotiate", receive="weight=([0-9]+)", dynamic_weight=True, **QUICK)
            checker.configure({key_of(1): target(1, well.port, check)})
            await until(lambda: len(changes) == 1)
            asked = well.connections
            await until(lambda: well.connections > asked + 3)
            assert [health.weight for _, health in changes] == [7], "the same again is no news"
            answer = b"weight=0"
            await until(lambda: len(changes) == 2)
            assert (changes[1][1].state, changes[1][1].weight) == ("up", 0)
            answer = b"weight=heavy"
            await until(lambda: states(changes)[-1] == "down")
            assert changes[-1][1].reason == "body does not match 'weight=([0-9]+)'"

    run(body)


class TestUnanswered:
    SELDOM = Check(interval=3600.0, timeout=5.0, failures=1, passive=3)

    def test_a_real_that_left_enough_unanswered_is_asked_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lb.checker.EARLY_SPACING_S", 0.0)
        port = free_port()

        async def body(checker: Checker, changes: Changes) -> None:
            async with serve_at(port) as served:
                checker.configure({key_of(1): target(1, port, self.SELDOM)})
                await until(lambda: states(changes) == ["up"] and served.connections == 1)
                checker.unanswered({key_of(1): 2})
                assert checker.early == 0
                checker.unanswered({key_of(1): 1})
                await until(lambda: served.connections == 2)
                await until(lambda: not checker._probes)
                checker.unanswered({key_of(1): 2})
                assert checker.early == 1, "a check that passes forgets them"
            checker.unanswered({key_of(1): 1})
            await until(lambda: states(changes) == ["up", "down"])
            checker.unanswered({key_of(1): 100})
            assert checker.early == 2, "it is out already"

        run(body)

    def test_not_so_soon_after_its_last_check(self) -> None:
        async def body(checker: Checker, changes: Changes) -> None:
            async with serve_at(port := free_port()) as served:
                checker.configure({key_of(1): target(1, port, self.SELDOM)})
                await until(lambda: states(changes) == ["up"] and not checker._probes)
                checker.unanswered({key_of(1): 100})
                assert checker.early == 0
                await until(lambda: served.connections == 1)

        run(body)

    def test_who_does_not_want_it_and_who_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lb.checker.EARLY_SPACING_S", 0.0)

        async def body(checker: Checker, changes: Changes) -> None:
            async with serve_at(port := free_port()):
                checker.configure({key_of(1): target(1, port, Check(interval=3600.0))})
                await until(lambda: states(changes) == ["up"] and not checker._probes)
                checker.unanswered({key_of(1): 100, key_of(2): 100})
                assert checker.early == 0

        run(body)

    def test_no_more_at_a_time_than_leave_others_their_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lb.checker.EARLY_SPACING_S", 0.0)
        keys = [key_of(number) for number in range(1, 2 * AT_ONCE)]

        async def body(checker: Checker, changes: Changes) -> None:
            async with serve_at(port := free_port()):
                checker.configure({key: target(key[0].port, port, self.SELDOM) for key in keys})
                await until(lambda: len(changes) == len(keys) and not checker._probes)
                checker.unanswered(dict.fromkeys(keys, 3))
                assert checker.early == AT_ONCE

        run(body)


def test_many_that_are_due_together_leave_others_their_turn() -> None:
    """A thousand are due after the loop stood still; heartbeats would run in between."""
    begun_a_turn: list[int] = []

    async def body(checker: Checker, changes: Changes) -> None:
        async def turns() -> None:
            while True:
                before = len(changes)
                await asyncio.sleep(0)
                begun_a_turn.append(len(changes) - before)

        check = Check(type="on", interval=60.0)
        checker.configure({key_of(n): target(n, 1, check) for n in range(1, 1001)})
        time.sleep(1.1)  # noqa: ASYNC251 - the stall
        turning = asyncio.create_task(turns())
        await until(lambda: len(changes) == 1000)
        turning.cancel()

    run(body)
    assert sum(begun_a_turn) >= 1000 - AT_ONCE
    assert max(begun_a_turn) <= AT_ONCE


class TestConfigure:
    def test_the_same_again_changes_nothing(self) -> None:
        async def body(checker: Checker, changes: Changes) -> None:
            async with serve(says(page(b""))) as well:
                slow = Check(interval=60.0, timeout=30.0)
                checker.configure({key_of(1): target(1, well.port, slow)})
                await until(lambda: states(changes) == ["up"])
                before = checker.snapshot()
                checker.configure({key_of(1): target(1, well.port, Check(interval=60.0, timeout=30.0))})
                checker.configure({key_of(1): target(1, well.port, slow), key_of(2): target(2, well.port, slow)})
                await until(lambda: states(changes, 2) == ["up"] and well.connections >= 2)
                assert well.connections == 2, "what was known is not asked again before its time"
                assert checker.snapshot()[key_of(1)] == before[key_of(1)]

        run(body)

    def test_what_vanished_is_asked_no_more_and_forgotten(self) -> None:
        async def body(checker: Checker, changes: Changes) -> None:
            async with serve(silent) as gone, serve(says(page(b""))) as stays:
                keep = {key_of(2): target(2, stays.port, Check(**QUICK))}
                checker.configure({key_of(1): target(1, gone.port, Check(type="negotiate", **QUICK)), **keep})
                await until(lambda: gone.connections == 1)
                checker.configure(keep)
                assert checker.health(key_of(1)) is None
                asked = stays.connections
                await until(lambda: stays.connections > asked + 10)
                assert gone.connections == 1
            assert states(changes) == [], "a probe that was stopped reports nothing"

        run(body)

    def test_another_question_keeps_the_state_and_is_asked_at_once(self) -> None:
        async def body(checker: Checker, changes: Changes) -> None:
            async with serve(says(page(b"Test Page"))) as well:

                def asking(receive: str) -> dict[TargetKey, Target]:
                    check = Check(type="negotiate", receive=receive, interval=60.0, timeout=30.0, failures=2)
                    return {key_of(1): target(1, well.port, check)}

                checker.configure(asking("Test"))
                await until(lambda: states(changes) == ["up"])
                since_s = checker.snapshot()[key_of(1)].since_s
                checker.configure(asking("Best"))
                assert checker.snapshot()[key_of(1)].state == "up"
                await until(lambda: checker.snapshot()[key_of(1)].failed == 1)
                now = checker.snapshot()[key_of(1)]
                assert (now.state, now.since_s, now.soft) == ("up", since_s, True)
                assert now.reason == "body does not match 'Best'"

        run(body)


class TestSeed:
    def test_remembered_states_hold_until_the_checks_say_otherwise(self) -> None:
        async def body(checker: Checker, changes: Changes) -> None:
            port = free_port()
            checker.seed({key_of(1): "up", key_of(9): "down"})
            checker.configure({key_of(n): target(n, port, Check(failures=3, **QUICK)) for n in (1, 2)})
            assert checker.snapshot()[key_of(1)].state == "up"
            assert checker.snapshot()[key_of(2)].state == "unknown"
            await until(lambda: states(changes) == ["down"])
            assert checker.snapshot()[key_of(1)].failed >= 3, "held to the same counts as any real that is up"

        run(body)

    def test_they_serve_the_next_configure_only(self) -> None:
        async def body(checker: Checker, _changes: Changes) -> None:
            checker.seed({key_of(1): "up"})
            checker.configure({})
            checker.configure({key_of(1): target(1, free_port(), Check(**QUICK))})
            assert checker.snapshot()[key_of(1)].state == "unknown"

        run(body)


class TestNotCounted:
    def test_an_answer_that_is_late_because_we_were(self) -> None:
        """The loop stands still for longer than the timeout: the first such failure is forgotten, others count."""

        async def body(checker: Checker, changes: Changes) -> None:
            async with serve(silent) as dead:
                checker.seed({key_of(1): "up"})
                check = Check(type="negotiate", interval=1.0, timeout=0.4, failures=1)
                checker.configure({key_of(1): target(1, dead.port, check)})
                await until(lambda: dead.connections == 1)
                time.sleep(0.6)  # noqa: ASYNC251 - the stall that is tested
                await until(lambda: dead.connections == 2)
                assert checker.snapshot()[key_of(1)] == Health(
                    "up", checker.snapshot()[key_of(1)].since_s, "remembered from before the restart"
                )
                await until(lambda: states(changes) == ["down"])
                assert changes[0][1].reason == "no answer within 400ms"

        _, logs = run(body)
        assert [entry for entry in logs if entry["event"] == "checks are not counted"]

    def test_what_could_not_be_asked_for_want_of_descriptors(self) -> None:
        async def body(checker: Checker, changes: Changes) -> None:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            async with serve(says(page(b""))) as well:
                checker.seed({key_of(1): "up"})
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
                try:
                    checker.configure({key_of(1): target(1, well.port, Check(failures=1, **QUICK))})
                    with pytest.raises(TimeoutError):
                        await until(lambda: bool(changes), within_s=0.2)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert checker.snapshot()[key_of(1)].state == "up"
                await until(lambda: checker.snapshot()[key_of(1)].passed > 0)

        changes, logs = run(body)
        assert changes == []
        said = [entry["trouble"] for entry in logs if entry["event"] == "checks are not counted"]
        assert said == ["too many open files"], "said once, not at every check"


def test_a_fault_of_a_probe_is_a_failure_logged_once() -> None:
    """A pattern that the configuration would have refused: the probe raises what nobody expects."""
    faulty = Check(type="negotiate", **QUICK).model_copy(update={"receive": "("})

    async def body(checker: Checker, changes: Changes) -> None:
        async with serve(says(page(b"Test Page"))) as well:
            checker.configure({key_of(1): target(1, well.port, faulty)})
            await until(lambda: well.connections > 5)
            assert states(changes) == ["down"]
            assert changes[0][1].reason.startswith("fault of the check itself: error: missing )")

    _, logs = run(body)
    assert len([entry for entry in logs if entry["event"] == "a check has a fault"]) == 1


def test_close_leaves_no_descriptor() -> None:
    async def body(checker: Checker, _changes: Changes) -> None:
        async with serve(silent) as dead:
            check = Check(type="negotiate", timeout=60.0)
            https = Check(type="negotiate", service="https", timeout=60.0)
            checker.configure({key_of(n): target(n, dead.port, check if n % 2 else https) for n in range(20)})
            await until(lambda: dead.connections == 20)
            await checker.close()
            assert checker.snapshot() == {}

    before = open_files()
    run(body)
    gc.collect()
    assert not open_files() - before


class TestDueTimes:
    @given(st.floats(0, 1e7), st.floats(0.001, 86400), st.floats(0, 1, exclude_max=True))
    def test_the_grid(self, after_s: float, interval_s: float, phase: float) -> None:
        due_s = next_due(after_s, interval_s, phase)
        assert after_s < due_s
        assert due_s - after_s <= interval_s * 1.0011
        following_s = next_due(due_s, interval_s, phase)
        assert following_s - due_s == pytest.approx(interval_s, rel=1e-5)

    @given(st.floats(0, 1e7), st.floats(0.1, 3600), st.floats(0, 1, exclude_max=True))
    def test_a_timer_that_fires_a_little_early_does_not_fire_twice(
        self, after_s: float, interval_s: float, phase: float
    ) -> None:
        due_s = next_due(after_s, interval_s, phase)
        early_s = due_s - interval_s / 2000
        assert next_due(early_s, interval_s, phase) == pytest.approx(due_s + interval_s, rel=1e-9)

    def test_a_thousand_checks_neither_drift_nor_bunch(self) -> None:
        """However late each comes, the next is due where it would have been."""
        due_s = first_s = next_due(1000.0, 2.0, 0.25)
        for late_s in [0.0, 1.9, 0.7] * 333:
            due_s = next_due(due_s + late_s, 2.0, 0.25)
        assert due_s == pytest.approx(first_s + 999 * 2.0)
        assert next_due(due_s + 7.0, 2.0, 0.25) == pytest.approx(due_s + 8.0), "slots that were missed are left out"

    def test_phases_are_spread_and_the_same_in_every_process(self) -> None:
        assert phase_of(key_of(80)) == pytest.approx(0.4150243478361517)
        tenths = [int(phase_of(key_of(n)) * 10) for n in range(1000)]
        assert all(tenths.count(tenth) > 50 for tenth in range(10))
