"""Telling people: what is said, when, to whom, and what becomes of it when it cannot be sent; by real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from lb.alerts import Alerts, Event, channel, digest
from lb.alerts.digest import Digest
from lb.model import Alerts as Settings
from tests.servers import free_port, serve, silent, until

DOWN = Event(1700000000.0, "web", "192.168.1.101", "web1", "http", "down", "up", 12.5, "status 500, expected 2xx")
UP = DOWN._replace(state="up", was="down", reason="status 200", at=1700000010.0)
OTHER = DOWN._replace(real="192.168.1.102", name="")
LOST = Event(1700000000.0, "web", "", "", "", "down", "", 0.0, "no real left; nobody serves")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "GATHER_S", 0.02)
    monkeypatch.setattr(channel, "ROLE_INTERVAL_S", 0.01)


class TestDigest:
    @pytest.mark.parametrize(
        ("events", "omitted", "said"),
        [
            ((DOWN,), 0, "[demo lb1] web1 of web is down: status 500, expected 2xx"),
            ((OTHER,), 0, "[demo lb1] 192.168.1.102 of web is down: status 500, expected 2xx"),
            ((DOWN._replace(again=True),), 0, "[demo lb1] web1 of web is still down: status 500, expected 2xx"),
            ((LOST,), 0, "[demo lb1] web is down: no real left; nobody serves"),
            ((DOWN, UP, OTHER), 0, "[demo lb1] 2 down, 1 up: web1 of web, 192.168.1.102 of web"),
            ((DOWN,), 3, "[demo lb1] 1 down: web1 of web"),
            ((DOWN._replace(reason="a\nBcc: x@y"),), 0, "[demo lb1] web1 of web is down: a Bcc: x@y"),
            ((DOWN._replace(reason="x" * 200),), 0, "[demo lb1] web1 of web is down: " + "x" * 87 + "…"),
        ],
    )
    def test_subject(self, events: tuple[Event, ...], omitted: int, said: str) -> None:
        assert digest.subject(Digest("demo", "lb1", events, omitted)) == said

    def test_text(self) -> None:
        events = (DOWN, UP, OTHER._replace(again=True, lasted_s=60.0), LOST)
        assert digest.text(Digest("demo", "lb1", events, 2)).splitlines() == [
            "2 earlier changes are left out; the log of lb1 has them.",
            "2023-11-14 22:13:20+00:00  web1 (192.168.1.101) of web is down (http): status 500, expected 2xx; "
            "was up for 12 s",
            "2023-11-14 22:13:30+00:00  web1 (192.168.1.101) of web is up (http): status 200; was down for 12 s",
            "2023-11-14 22:13:20+00:00  192.168.1.102 of web is down (http): status 500, expected 2xx; "
            "for 60 s already",
            "2023-11-14 22:13:20+00:00  web is down: no real left; nobody serves",
            "",
            "-- ",
            "lbctl on lb1, cluster demo",
        ]

    def test_document(self) -> None:
        document = digest.document(Digest("demo", "lb1", (DOWN, LOST)))
        assert json.loads(json.dumps(document)) == document
        assert (document["cluster"], document["node"], document["omitted"]) == ("demo", "lb1", 0)
        first, second = document["changes"]
        assert first == {
            "at": "2023-11-14T22:13:20.000+00:00", "virtual": "web", "real": "192.168.1.101", "name": "web1",
            "check": "http", "state": "down", "was": "up", "lasted_s": 12.5, "reason": "status 500, expected 2xx",
            "phase": "running", "again": False,
        }  # fmt: skip
        assert (second["virtual"], second["real"], second["name"]) == ("web", None, None)


Body = Callable[["Told"], Awaitable[None]]


class Told:
    """Alerts whose command writes down what it is told."""

    def __init__(self, alerts: Alerts, file: Path) -> None:
        self.alerts, self._file = alerts, file
        self.role = "active"

    @property
    def messages(self) -> list[dict[str, Any]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def reals(self) -> list[list[tuple[str | None, str]]]:
        """Of each message the names and states."""
        return [[(change["name"], change["state"]) for change in message["changes"]] for message in self.messages]


class TestChannels:
    """By a program, which is the way that is easiest to look at."""

    def run(self, tmp_path: Path, body: Body, script: str = "", **settings: Any) -> None:
        file, program = tmp_path / "told", tmp_path / "teller"
        program.write_text(f'#!/bin/sh\n{script}\nread -r line; echo "$line" >>{file}\n')
        program.chmod(0o755)

        async def main() -> None:
            told = Told(Alerts(("demo", "lb1"), lambda: told.role), file)
            told.alerts.configure(Settings(command=str(program), **{"every": 0.01, **settings}))
            try:
                await body(told)
            finally:
                await told.alerts.close()

        uvloop.run(main())

    def test_what_happens_together_is_told_together(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            told.alerts.tell(DOWN)
            told.alerts.tell(LOST)
            await until(lambda: told.reals == [[("web1", "down"), (None, "down")]])
            told.alerts.tell(UP)
            await until(lambda: told.reals[1:] == [[("web1", "up")]])

        self.run(tmp_path, body)

    def test_no_more_often_than_is_wished(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            told.alerts.tell(DOWN)
            await until(lambda: len(told.messages) == 1)
            for _ in range(50):
                told.alerts.tell(UP)
                await asyncio.sleep(0.005)
            assert len(told.messages) == 1

        self.run(tmp_path, body, every=3600.0)

    def test_of_too_many_the_newest_are_told(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            for number in range(channel.MOST + 7):
                told.alerts.tell(DOWN._replace(name=str(number)))
            await until(lambda: len(told.messages) == 1)
            assert told.messages[0]["omitted"] == 7
            assert told.reals[0][0] == ("7", "down")

        self.run(tmp_path, body)

    def test_states_and_phases_that_nobody_asked_for(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            told.alerts.tell(UP)
            told.alerts.tell(DOWN._replace(phase="starting"))
            told.alerts.tell(DOWN._replace(phase="reloading"))
            told.alerts.tell(OTHER)
            await until(lambda: bool(told.messages))
            assert told.reals == [[("web1", "down"), (None, "down")]]

        self.run(tmp_path, body, states=("down",), phases=("running", "reloading"))

    def test_a_standby_says_nothing_and_who_has_no_role_yet_waits(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            told.role = "standby"
            told.alerts.tell(DOWN)
            await asyncio.sleep(0.1)
            told.role = "init"
            told.alerts.tell(OTHER)
            with pytest.raises(TimeoutError):
                await until(lambda: bool(told.messages), within_s=0.2)
            told.role = "active"
            await until(lambda: told.reals == [[(None, "down")]])

        self.run(tmp_path, body)

    def test_again_while_it_stays_down(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            told.alerts.tell(DOWN)
            told.alerts.tell(OTHER)
            await until(lambda: sum(change["again"] for m in told.messages for change in m["changes"]) >= 6)
            told.alerts.tell(UP)
            told.alerts.keep({("web", "192.168.1.101")})
            await until(lambda: ("web1", "up") in told.reals[-1])
            count = len(told.messages)
            with pytest.raises(TimeoutError):
                await until(lambda: len(told.messages) > count, within_s=0.3)
            (lasted, *_) = [c["lasted_s"] for m in told.messages for c in m["changes"] if c["again"]]
            assert lasted == 0.1

        self.run(tmp_path, body, repeat=0.1)

    def test_what_could_not_be_sent_is_sent_later(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            told.alerts.tell(DOWN)
            await until(lambda: told.alerts.failures >= 2)
            told.alerts.tell(UP)
            (tmp_path / "well").touch()
            await until(lambda: told.reals == [[("web1", "down"), ("web1", "up")]])

        self.run(tmp_path, body, script=f"test -e {tmp_path}/well || {{ echo 'not well'; exit 3; }}")

    def test_the_same_settings_again_change_nothing_and_others_begin_anew(self, tmp_path: Path) -> None:
        async def body(told: Told) -> None:
            settings = Settings(command=str(tmp_path / "teller"), every=0.01)
            told.alerts.tell(DOWN)
            told.alerts.configure(settings)
            await until(lambda: told.reals == [[("web1", "down")]])
            told.alerts.configure(Settings())
            told.alerts.tell(UP)
            told.alerts.configure(settings)
            told.alerts.tell(OTHER)
            await until(lambda: told.reals[1:] == [[(None, "down")]])

        self.run(tmp_path, body)


def test_closing_ends_also_who_has_just_sent() -> None:
    async def main() -> None:
        sending = asyncio.Event()
        answer = asyncio.get_running_loop().create_future()

        async def send(_digest: Digest) -> None:
            sending.set()
            await asyncio.wait_for(answer, 10)

        told = channel.Channel("email", send, 0.01, ("demo", "lb1"), lambda: "active")
        told.tell(DOWN)
        await sending.wait()
        answer.set_result(None)  # in the same turn: wait_for of Python 3.11 then returns that
        async with asyncio.timeout(5):
            await told.close()

    asyncio.run(main())


class TestOwn:
    """A virtual with some settings of its own."""

    def test_each_is_told_of_its_virtuals_alone(self, tmp_path: Path) -> None:
        program = tmp_path / "teller"
        program.write_text(f'#!/bin/sh\nread -r line; echo "$line" >>{tmp_path}/told\n')
        program.chmod(0o755)
        shop = tmp_path / "shop"
        shop.write_text(f'#!/bin/sh\nread -r line; echo "$line" >>{tmp_path}/told-shop\n')
        shop.chmod(0o755)

        def told(name: str) -> list[tuple[str, str]]:
            file = tmp_path / name
            documents = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
            return [(change["virtual"], change["state"]) for document in documents for change in document["changes"]]

        async def main() -> None:
            alerts = Alerts(("demo", "lb1"), lambda: "active")
            general = Settings(command=str(program), every=0.01)
            own = {"shop": general.model_copy(update={"command": str(shop), "repeat": 0.05})}
            try:
                alerts.configure(general, own)
                alerts.tell(DOWN)
                alerts.tell(DOWN._replace(virtual="shop"))
                await until(lambda: len(told("told-shop")) >= 3)
                assert set(told("told-shop")) == {("shop", "down")}
                await until(lambda: told("told") == [("web", "down")])
                alerts.keep({("web", DOWN.real)})
                assert alerts.failures == 0
                alerts.configure(general)
                alerts.tell(UP._replace(virtual="shop"))
                await until(lambda: told("told") == [("web", "down"), ("shop", "up")])
            finally:
                await alerts.close()

        uvloop.run(main())


class Mails:
    """What a mail server accepted. aiosmtpd calls `handle_DATA`."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse = ""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse:
            return self.refuse
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"


@asynccontextmanager
async def mail_server(mails: Mails, **options: Any) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mails, **options), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def alerting(**settings: Any) -> AsyncIterator[Alerts]:
    alerts = Alerts(("demo", "lb1"), lambda: "active")
    alerts.configure(Settings(**{"every": 0.01, **settings}))
    try:
        yield alerts
    finally:
        await alerts.close()


TWO = ("a@example.com", "b@example.com")


class TestMail:
    def test_one_to_all(self) -> None:
        async def main() -> None:
            mails = Mails()
            async with (
                mail_server(mails) as port,
                alerting(email=TWO, email_from="lb@example.com", smtp=f"127.0.0.1:{port}") as alerts,
            ):
                alerts.tell(DOWN._replace(reason="body does not match 'Prüfung'"))
                await until(lambda: len(mails.mails) == 1)
            (mail,) = mails.mails
            assert mails.recipients == [list(TWO)]
            assert (mail["From"], mail["To"]) == ("lb@example.com", "a@example.com, b@example.com")
            assert mail["Subject"] == "[demo lb1] web1 of web is down: body does not match 'Prüfung'"
            assert "'Prüfung'; was up for 12 s" in mail.get_content()
            assert mail["Auto-Submitted"] == "auto-generated"
            assert mail["Date"]
            assert mail["Message-ID"]

        asyncio.run(main())

    def test_with_a_password_from_a_file(self, tmp_path: Path) -> None:
        secret = tmp_path / "passwd"
        secret.write_text("hunter2\n")
        logins: list[tuple[bytes, bytes]] = []

        def authenticate(
            _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
        ) -> AuthResult:
            assert isinstance(data, LoginPassword)
            logins.append((data.login, data.password))
            return AuthResult(success=data.password == b"hunter2")

        async def main() -> None:
            mails = Mails()
            options = {"authenticator": authenticate, "auth_require_tls": False, "auth_required": True}
            async with (
                mail_server(mails, **options) as port,
                alerting(
                    email=("a@example.com",), smtp=f"127.0.0.1:{port}", smtp_login="lb", smtp_passwd_file=str(secret)
                ) as alerts,
            ):
                alerts.tell(DOWN)
                await until(lambda: len(mails.mails) == 1)

        asyncio.run(main())
        assert set(logins) == {(b"lb", b"hunter2")}  # once, or again where the machine was too slow

    def test_a_server_that_refuses_is_asked_again(self) -> None:
        async def main() -> None:
            mails = Mails()
            mails.refuse = "451 come back later"
            async with (
                mail_server(mails) as port,
                alerting(email=("a@example.com",), smtp=f"127.0.0.1:{port}") as alerts,
            ):
                alerts.tell(DOWN)
                await until(lambda: alerts.failures > 0)
                mails.refuse = ""
                await until(lambda: len(mails.mails) == 1)

        asyncio.run(main())


REASONS = [
    ({"email": ("a@b.c",), "smtp": "127.0.0.1:{refused}"}, "127.0.0.1:{refused}: "),
    ({"email": ("a@b.c",), "smtp": "127.0.0.1:{silent}"}, "took longer than 0.2 s"),
    (
        {"email": ("a@b.c",), "smtp": "127.0.0.1:{silent}", "smtp_login": "lb", "smtp_passwd_file": "/nowhere/passwd"},
        "smtp_passwd_file /nowhere/passwd: No such file or directory",
    ),
    ({"webhook": "http://127.0.0.1:{refused}/secret"}, "127.0.0.1:{refused}: connection refused"),
    ({"webhook": "http://user:secret@127.0.0.1:{silent}/secret"}, "took longer than 0.2 s"),
    ({"command": "/nowhere/teller"}, "/nowhere/teller: cannot be run: no such file or directory"),
    ({"command": "/bin/false"}, "/bin/false: exit status 1"),
]


@pytest.mark.parametrize(("settings", "reason"), REASONS)
def test_why_it_could_not_be_sent(
    settings: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(channel, "SEND_LIMIT_S", 0.2)

    async def main() -> dict[str, Any]:
        async with serve(silent) as deaf:
            ports = {"refused": free_port(), "silent": deaf.port}
            filled = {
                key: value.format(**ports) if isinstance(value, str) else value for key, value in settings.items()
            }
            async with alerting(**filled) as alerts:
                alerts.tell(DOWN)
                await until(lambda: alerts.failures > 0)
            return ports

    ports = uvloop.run(main())
    said = capsys.readouterr().out
    assert reason.format(**ports) in said
    assert "secret" not in said


class TestWebhook:
    def run(self, statuses: list[int]) -> list[Any]:
        """What a server hears that answers with these in turn, and with 200 after them."""
        heard: list[Any] = []

        async def hook(request: web.Request) -> web.Response:
            heard.append(await request.json())
            return web.Response(status=statuses.pop(0) if statuses else 200, headers={"Location": "/elsewhere"})

        async def main() -> None:
            application = web.Application()
            application.router.add_post("/hook", hook)
            runner = web.AppRunner(application)
            await runner.setup()
            port = free_port()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            try:
                async with alerting(webhook=f"http://127.0.0.1:{port}/hook") as alerts:
                    expected = 1 + len(statuses)
                    alerts.tell(DOWN)
                    await until(lambda: len(heard) == expected)
            finally:
                await runner.cleanup()

        uvloop.run(main())
        return heard

    def test_the_document_is_posted(self) -> None:
        assert self.run([]) == [digest.document(Digest("demo", "lb1", (DOWN,)))]

    def test_anything_but_2xx_is_tried_again(self) -> None:
        heard = self.run([500, 302])
        assert heard == [heard[0]] * 3
