"""The ways a message goes: mail by SMTP, a program's standard input, an HTTP POST."""

from __future__ import annotations

import json
import os
import socket
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import aiohttp
import aiosmtplib

from lb import programs
from lb.alerts import digest as digests
from lb.alerts.channel import SEND_LIMIT_S, UnsentError
from lb.alerts.digest import Digest
from lb.model import Alerts

SMTP_PORTS = {"off": 25, "starttls": 587, "on": 465}
"""Where a mail server is asked if no port is said, by `smtp_tls`."""
ANSWER_LONGEST = 200
"""Characters of a server's refusal that are told."""


async def mail(settings: Alerts, digest: Digest) -> None:
    """One mail to all recipients. Raises UnsentError."""
    message = EmailMessage()
    message["From"] = settings.email_from or f"lbctl@{socket.getfqdn()}"
    message["To"] = ", ".join(settings.email)
    message["Subject"] = digests.subject(digest)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain="lbctl")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(digests.text(digest))
    host, port = settings.smtp_server
    try:
        refused, _ = await aiosmtplib.send(
            message,
            hostname=host,
            port=port or SMTP_PORTS[settings.smtp_tls],
            use_tls=settings.smtp_tls == "on",
            start_tls=settings.smtp_tls == "starttls",
            username=settings.smtp_login,
            password=_password(settings.smtp_passwd_file) if settings.smtp_passwd_file else None,
            timeout=SEND_LIMIT_S,
        )
    except (aiosmtplib.SMTPException, OSError) as error:
        raise UnsentError(f"{settings.smtp}: {_short(str(error) or type(error).__name__)}") from None
    if refused:
        raise UnsentError(f"{settings.smtp}: refused for {', '.join(refused)}")


async def command(settings: Alerts, digest: Digest) -> None:
    """The document on a program's standard input. Raises UnsentError."""
    content = json.dumps(digests.document(digest)).encode() + b"\n"
    wrong = await programs.run((settings.command or "",), SEND_LIMIT_S, stdin=content)
    if wrong:
        raise UnsentError(f"{settings.command}: {wrong}")


async def webhook(settings: Alerts, digest: Digest) -> None:
    """The document as a POST; any 2xx is a success, a redirect is none. Raises UnsentError.

    The address may be a secret, so that only its host is told.
    """
    url = settings.webhook or ""
    try:
        async with (
            aiohttp.ClientSession(headers={"User-Agent": "lbctl"}) as session,
            session.post(url, json=digests.document(digest), allow_redirects=False) as answer,
        ):
            if 200 <= answer.status < 300:
                return
            reason = f"status {answer.status}, expected 2xx"
    except aiohttp.ClientError as error:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        reason = (
            os.strerror(cause.errno).lower() if isinstance(cause, OSError) and cause.errno else type(error).__name__
        )
    raise UnsentError(f"{settings.webhook_host}: {reason}")


def _password(path: str) -> str:
    """What the file says, without the line's end. Raises UnsentError."""
    try:
        return Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UnsentError(f"smtp_passwd_file {path}: {getattr(error, 'strerror', None) or 'not text'}") from None


def _short(words: str) -> str:
    return " ".join(words.split())[:ANSWER_LONGEST]
