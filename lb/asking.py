"""`[virtual.check]` as frozen values: what a real is asked, and how often. Pure.

Which keys a kind of check reads is in `lb.kinds`; that no other is written, in `lb.rules`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from lb import fields
from lb.fields import Duration, Frozen, Port, Span
from lb.kinds import Kind, kind_of


class Question(Frozen):
    """What a real is asked: `[virtual.check]` itself, or a `[[virtual.check.part]]` of one.

    passwd, secret: hidden wherever a check is shown. Files are absolute: `lb.config` resolves them.
    """

    type: fields.CheckType = "connect"
    service: fields.CheckService = "http"
    protocol: Literal["tcp", "udp"] | None = None
    port: Port | None = None
    request: fields.Text | None = None
    request_hex: fields.Hex | None = None
    receive: fields.Pattern | None = None
    receive_hex: fields.HexPattern | None = None
    refuse: fields.Pattern | None = None
    virtualhost: fields.HostHeader | None = None
    method: Literal["GET", "HEAD"] = "GET"
    status: Annotated[tuple[fields.StatusCode, ...], Field(strict=False)] = ()
    digest: fields.Digest | None = None
    record: Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] | None = None
    database: fields.Text | None = None
    login: fields.Line | None = None
    passwd: SecretStr | None = None
    passwd_file: fields.NearbyFile | None = None
    secret: SecretStr | None = None
    secret_file: fields.NearbyFile | None = None
    command: Annotated[tuple[fields.Argument, ...], Field(strict=False)] = ()
    tls: Literal["off", "on", "starttls"] = "off"
    verify: bool = False
    ca: fields.NearbyFile | None = None
    sni: fields.HostName | None = None
    certificate: fields.NearbyFile | None = None
    key: fields.NearbyFile | None = None
    expiry: Duration = 14 * 86400.0

    @property
    def kind(self) -> Kind:
        """What this question reads."""
        return kind_of(self.type, self.service)

    @property
    def name(self) -> str:
        """What it is called where a word must do: the service, or the type that has none."""
        return self.service if self.type == "negotiate" else self.type

    @property
    def encrypted(self) -> bool:
        """Is it put into TLS, sooner or later?"""
        return self.kind.always or self.tls != "off"

    @property
    def verified(self) -> bool:
        """Must the certificate be valid and its name right? Whoever names a CA means it."""
        return self.verify or self.ca is not None


class Check(Question):
    """`[virtual.check]`: how the reals of a virtual are asked whether they are well.

    parts: what types `all` and `any` put together; empty with every other type.
    """

    parts: Annotated[tuple[Question, ...], Field(strict=False)] = Field(default=(), alias="part")
    interval: Span = 2.0
    down_interval: Span | None = None
    timeout: Span = 1.0
    connect_timeout: Span | None = None
    failures: Annotated[int, fields.within(1, 1000)] = 2
    rises: Annotated[int, fields.within(1, 1000)] = 1
    flaps: Annotated[int, fields.within(0, 100)] = 0
    flap_window: Span = 300.0
    passive: Annotated[int, fields.within(0, 1_000_000)] = 0
    dynamic_weight: bool = False
    via: Literal["real", "virtual"] = "real"

    def interval_while(self, state: str) -> float:
        """Seconds from one check to the next of a real in that state."""
        return self.down_interval or self.interval if state == "down" else self.interval

    @property
    def questions(self) -> tuple[Question, ...]:
        """Everything that is asked: the parts, or the check itself."""
        return self.parts or (self,)


@lru_cache(maxsize=4096)
def alone(part: Question, check: Check) -> Check:
    """A part as if it were the whole check: its own keys, the check's times, and its port where it has none."""
    own = {name: getattr(part, name) for name in Question.model_fields}
    own["port"] = part.port or check.port
    return check.model_copy(update={**own, "parts": ()})
