"""What a director does about health beside checks: maintenance files, fallback commands, the steps of slow starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from itertools import groupby
from pathlib import Path

import uvloop

from lb import config
from lb.maintenance import Maintenance
from lb.model import Cluster
from lb.monitor import Monitor
from lb.plan import service_key
from lb.sorry import FallbackCommands
from lb.weights import Standing
from tests.servers import close_at_once, free_port, page, says, serve, until
from tests.unit.test_config import VALID

TELLER = """\
#!/bin/sh
echo "$LBCTL_VIRTUAL $*" >>{told}
while test -e {hold}; do sleep 0.01; done
"""


def cluster(**virtual: str) -> Cluster:
    keys = "\n".join(f"{key} = {value}" for key, value in virtual.items())
    return config.parse(VALID.replace('fallback = "127.0.0.1:80"', keys), "c")


def here(text: str) -> Cluster:
    """A configuration whose reals are at 127.0.0.1 and 127.0.0.2, which no file may say."""
    conf = config.parse(text, "c")
    (web,) = conf.virtuals
    reals = tuple(
        real.model_copy(update={"address": IPv4Address(f"127.0.0.{number}")})
        for number, real in enumerate(web.reals, 1)
    )
    return conf.model_copy(update={"virtuals": (web.model_copy(update={"reals": reals}),)})


def teller(directory: Path) -> Path:
    """A program that writes down what it is told, and takes as long as there is a file `hold`."""
    program = directory / "teller"
    program.write_text(TELLER.format(told=directory / "told", hold=directory / "hold"))
    program.chmod(0o755)
    return program


class TestFallbackCommands:
    def run(
        self, tmp_path: Path, body: Callable[[Callable[..., None], Callable[[], list[str]]], Awaitable[None]]
    ) -> None:
        conf = cluster(fallback_command=f'"{teller(tmp_path)}"')
        key = service_key(conf.virtuals[0])

        async def main() -> None:
            commands = FallbackCommands()

            def stand(*weights: int, settled: bool = True) -> None:
                commands.update(conf, {key: Standing(weights, settled=settled)})

            def told() -> list[str]:
                file = tmp_path / "told"
                return file.read_text().splitlines() if file.exists() else []

            try:
                await body(stand, told)
            finally:
                (tmp_path / "hold").unlink(missing_ok=True)
                await commands.close()

        uvloop.run(main())

    def test_told_of_each_loss_and_each_return(self, tmp_path: Path) -> None:
        async def body(stand: Callable[..., None], told: Callable[[], list[str]]) -> None:
            stand(0, 0, settled=False)
            stand(1, 0)
            stand(0, 0)
            await until(lambda: told() == ["web start 192.168.1.105:80 tcp"])
            stand(0, 0)
            stand(0, 1)
            await until(lambda: told() == ["web start 192.168.1.105:80 tcp", "web stop 192.168.1.105:80 tcp"])

        self.run(tmp_path, body)

    def test_what_came_and_went_meanwhile_is_not_told(self, tmp_path: Path) -> None:
        async def body(stand: Callable[..., None], told: Callable[[], list[str]]) -> None:
            (tmp_path / "hold").touch()
            stand(0, 0)
            await until(lambda: len(told()) == 1)
            for weight in (1, 0, 1, 0, 1):
                stand(weight, 0)
            (tmp_path / "hold").unlink()
            await until(lambda: len(told()) == 2)
            assert told()[1].startswith("web stop")
            stand(0, 0)
            await until(lambda: len(told()) == 3)
            assert told()[2].startswith("web start")

        self.run(tmp_path, body)


class TestMaintenance:
    def test_files_come_and_go(self, tmp_path: Path) -> None:
        async def main() -> None:
            changes = 0

            def changed() -> None:
                nonlocal changes
                changes += 1

            directory = tmp_path / "maintenance"
            maintenance = Maintenance(changed)
            try:
                maintenance.configure(directory)
                assert (maintenance.files, changes) == (frozenset(), 0), "a directory that is not there holds no files"
                directory.mkdir()
                (directory / "WEB1").touch()
                (directory / ".web2.swp").touch()
                await until(lambda: maintenance.files == {"web1"})
                (directory / "WEB1").unlink()
                await until(lambda: maintenance.files == frozenset())
                assert changes == 2
            finally:
                await maintenance.close()

        uvloop.run(main())

    def test_what_is_there_at_first_is_known_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "web1").touch()

        async def main() -> None:
            maintenance = Maintenance(lambda: None)
            maintenance.configure(tmp_path)
            assert maintenance.files == {"web1"}
            maintenance.configure(None)
            assert maintenance.files == frozenset()
            await maintenance.close()

        uvloop.run(main())

    def test_a_directory_that_cannot_be_read_is_as_it_was(self, tmp_path: Path) -> None:
        directory = tmp_path / "maintenance"
        directory.mkdir()
        (directory / "web1").touch()

        async def main() -> None:
            maintenance = Maintenance(lambda: None)
            try:
                maintenance.configure(directory)
                (directory / "web1").unlink()
                directory.rmdir()
                directory.write_text("a file where a directory was")
                await until(lambda: maintenance.trouble == "not a directory")
                assert maintenance.files == {"web1"}
            finally:
                await maintenance.close()

        uvloop.run(main())


class TestMonitor:
    def test_checks_and_maintenance_ask_for_a_new_look(self, tmp_path: Path) -> None:
        async def main() -> None:
            changed = asyncio.Event()
            async with serve(says(page(b"Test Page"))) as served:
                conf = here(
                    VALID.replace('receive = "Test Page"', f'port = {served.port}\ninterval = "20ms"')
                    .replace('fallback = "127.0.0.1:80"', "")
                    .replace('interface = "eth0"', f'interface = "eth0"\nmaintenance = "{tmp_path}"')
                )
                key = service_key(conf.virtuals[0])
                monitor = Monitor(conf, "lb1", changed.set, lambda: "active", {}, {})
                try:
                    assert monitor.weigh(conf, {})[key] == Standing((0, 0), settled=False)
                    await asyncio.wait_for(changed.wait(), 10.0)
                    await until(lambda: monitor.healths[key, IPv4Address("127.0.0.1")].state == "up")
                    assert monitor.weigh(conf, {})[key].weights[0] == 1
                    changed.clear()
                    (tmp_path / "web1").touch()
                    await until(lambda: bool(monitor.maintained) and changed.is_set())
                    assert monitor.maintained == {(key, IPv4Address("127.0.0.1")): "web1"}
                finally:
                    await monitor.close()

        uvloop.run(main())

    def test_a_slow_start_calls_for_each_of_its_steps(self) -> None:
        port = free_port()
        conf = here(
            VALID.replace("port = 80\n", 'port = 80\nscheduler = "wrr"\nslow_start = "200ms"\n')
            .replace('type = "negotiate"\nreceive = "Test Page"', f'port = {port}\ninterval = "20ms"\nfailures = 1')
            .replace('fallback = "127.0.0.1:80"', "")
        )
        key = service_key(conf.virtuals[0])
        seen: list[tuple[int, ...]] = []

        async def main() -> None:
            def changed() -> None:
                seen.append(monitor.weigh(conf, {})[key].weights)

            monitor = Monitor(conf, "lb1", changed, lambda: "active", {}, {})
            other = await asyncio.start_server(close_at_once, "127.0.0.2", port)
            try:
                await until(lambda: seen[-1:] == [(0, 1)])
                server = await asyncio.start_server(close_at_once, "127.0.0.1", port)
                await until(lambda: seen[-1] == (1, 1))
                server.close()
            finally:
                other.close()
                await monitor.close()

        uvloop.run(main())
        steps = [weights for weights, _ in groupby(seen)]
        steps = steps[steps.index((0, 1)) + 1 :]
        assert steps[0] == (1, 10)
        assert steps[:-1] == sorted(steps[:-1])
