"""What each kind of check looks at: one row a type, and one a service for `negotiate`. Pure.

The model lets any check have any key; a key that its kind does not read is an error (`lb.rules`), because its author
relies on it. The rows also say over which protocol a kind asks, how it can be put into TLS, which port it is usually
found at, and which optional library it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Transport = Literal["tcp", "udp"]

TLS_KEYS = ("verify", "ca", "sni", "certificate", "key", "expiry")
"""Keys of a check that is put into TLS."""
LOGIN_KEYS = ("login", "passwd", "passwd_file")
SECRET_KEYS = ("secret", "secret_file")
JUDGE_KEYS = ("receive", "refuse")
"""What an answer's text must contain, and must not."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of check reads.

    reads: keys beside `type`, `service` and `port`. needs: keys without which there is nothing to ask; of several
    with '|' between them one. transports: over what it asks; the first where neither check nor virtual chooses.
    tls: what `tls` may say; always: it is TLS whatever `tls` says. ports: where it is usually found.
    extra: of lbctl's optional dependencies; library: the module that it brings.
    """

    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    transports: tuple[Transport, ...] = ("tcp",)
    tls: tuple[str, ...] = ()
    always: bool = False
    ports: tuple[int, ...] = ()
    extra: str = ""
    library: str = ""

    @property
    def keys(self) -> frozenset[str]:
        """All keys that are looked at beside `type` and `service`."""
        keys = {"port", *self.reads}
        if self.tls:
            keys.add("tls")
        if self.tls or self.always:
            keys.update(TLS_KEYS)
        if len(self.transports) > 1:
            keys.add("protocol")
        return frozenset(keys)


_ANY_TLS = ("off", "on", "starttls")
_SQL = ("request", "database", *JUDGE_KEYS, *LOGIN_KEYS)
_HTTP = ("request", "virtualhost", "method", "status", "digest", *JUDGE_KEYS, *LOGIN_KEYS)

KINDS: dict[tuple[str, str | None], Kind] = {
    ("negotiate", "http"): Kind(_HTTP, ports=(80,)),
    ("negotiate", "https"): Kind(_HTTP, always=True, ports=(443,)),
    ("negotiate", "http_proxy"): Kind(
        ("request", "method", "status", "digest", *JUDGE_KEYS, *LOGIN_KEYS), ("request",), ports=(3128,)
    ),
    ("negotiate", "simpletcp"): Kind(
        ("request", "request_hex", "receive_hex", *JUDGE_KEYS), ("receive|receive_hex",), tls=("off", "on")
    ),
    ("negotiate", "simpleudp"): Kind(
        ("request", "request_hex", "receive_hex", *JUDGE_KEYS),
        ("request|request_hex", "receive|receive_hex"),
        transports=("udp",),
    ),
    ("negotiate", "http2"): Kind(_HTTP, tls=("off", "on"), extra="http2", library="h2"),
    ("negotiate", "grpc"): Kind(("request", "virtualhost"), tls=("off", "on"), extra="grpc", library="h2"),
    ("negotiate", "ftp"): Kind(("request", *JUDGE_KEYS, *LOGIN_KEYS), tls=_ANY_TLS, ports=(21,)),
    ("negotiate", "smtp"): Kind(("request", *JUDGE_KEYS, *LOGIN_KEYS), tls=_ANY_TLS, ports=(25, 465, 587)),
    ("negotiate", "pop"): Kind((*JUDGE_KEYS, *LOGIN_KEYS), tls=_ANY_TLS, ports=(110, 995)),
    ("negotiate", "imap"): Kind((*JUDGE_KEYS, *LOGIN_KEYS), tls=_ANY_TLS, ports=(143, 993)),
    ("negotiate", "nntp"): Kind(JUDGE_KEYS, tls=("off", "on"), ports=(119,)),
    ("negotiate", "ldap"): Kind(
        ("request", *JUDGE_KEYS, *LOGIN_KEYS), tls=("off", "starttls"), ports=(389,), extra="ldap", library="sansldap"
    ),
    ("negotiate", "ldaps"): Kind(
        ("request", *JUDGE_KEYS, *LOGIN_KEYS), always=True, ports=(636,), extra="ldap", library="sansldap"
    ),
    ("negotiate", "mysql"): Kind(_SQL, ("login",), tls=("off", "on"), ports=(3306,), extra="mysql", library="pymysql"),
    ("negotiate", "postgresql"): Kind(
        _SQL, ("login",), tls=("off", "on"), ports=(5432,), extra="postgresql", library="pg8000"
    ),
    ("negotiate", "redis"): Kind(("request", "database", *JUDGE_KEYS, *LOGIN_KEYS), tls=("off", "on"), ports=(6379,)),
    ("negotiate", "dns"): Kind(
        ("request", "record", *JUDGE_KEYS), ("request",), ("udp", "tcp"), ports=(53,), extra="dns", library="dns"
    ),
    ("negotiate", "sip"): Kind(
        ("request", "login", *JUDGE_KEYS), transports=("udp", "tcp"), tls=("off", "on"), ports=(5060,)
    ),
    ("negotiate", "radius"): Kind(
        (*LOGIN_KEYS, *SECRET_KEYS),
        ("login", "secret|secret_file"),
        ("udp",),
        ports=(1812,),
        extra="radius",
        library="pyrad",
    ),
    ("connect", None): Kind(transports=("tcp", "udp")),
    ("ping", None): Kind(transports=()),
    ("external", None): Kind(("command", *LOGIN_KEYS), ("command",), transports=()),
    ("on", None): Kind(transports=()),
    ("off", None): Kind(transports=()),
}
"""(type, service where the type is `negotiate`) → its row."""

MOTLEY = ("all", "any")
"""The types that put several questions together: every part passes, or one of them."""


def kind_of(type_: str, service: str) -> Kind:
    """The row of a check's type and service; of `all` and `any`, which read nothing themselves, an empty one."""
    return KINDS.get((type_, service if type_ == "negotiate" else None), Kind(transports=()))
