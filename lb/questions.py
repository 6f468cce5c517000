"""What a check must not say: keys that nobody looks at, keys that are missing, values that do not fit. See `lb.rules`.

A key that a kind of check ignores is an error because its author relies on it. `on` and `off` are the exception
(`lb.advice`), so that a check can be turned off for a while.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from lb import fields
from lb.asking import Check, Question
from lb.kinds import KINDS, MOTLEY, TLS_KEYS
from lb.model import OWN_KEYS, Cluster, Real, Virtual
from lb.positions import Finding, Path
from lb.wording import show

SILENT = ("on", "off")
FREE = ("simpletcp", "simpleudp", "mysql", "postgresql")
"""Services whose request may be of several lines."""
PATHS = ("http", "https", "http2")
"""Services whose request is a path."""


def rule(cluster: Cluster) -> Iterator[Finding]:
    """Everything that does not fit together in any check."""
    for v, virtual in enumerate(cluster.virtuals):
        place: Path = ("virtual", v, "check")
        check = virtual.check
        yield from _parts(check, place)
        if check.type not in MOTLEY:
            yield from _question(check, virtual, place)
        yield from _via(cluster, virtual, place)
        for p, part in enumerate(check.parts):
            yield from _question(part, virtual, (*place, "part", p))
        for r, real in enumerate(virtual.reals):
            if any(getattr(real, key) is not None for key in OWN_KEYS):
                yield from _own(virtual, real, ("virtual", v, "real", r))


def _own(virtual: Virtual, real: Real, place: Path) -> Iterator[Finding]:
    """What a real may say of its own check."""
    check = virtual.check
    kinds: tuple[Path, ...] = tuple((*place[:2], "check", key) for key in ("type", "service"))
    for key in OWN_KEYS:
        if getattr(real, key) is not None and key not in check.kind.keys:
            yield Finding(((*place, key), *kinds), f"is not looked at: the check is of {_name(check)}")
    yield from _request(virtual.check_of(real), place, kinds)


def _parts(check: Check, place: Path) -> Iterator[Finding]:
    motley = check.type in MOTLEY
    kind, parts = (*place, "type"), (*place, "part")
    if motley and not check.parts:
        yield Finding((kind, parts), f"{show(check.type)} has nothing to ask; add a [[virtual.check.part]] for each")
    if check.parts and not motley:
        yield Finding(
            (parts, kind),
            f'type {show(check.type)} asks one question; write type = "all" or "any", and this type in a '
            "[[virtual.check.part]]",
        )
    if motley:
        for key in _written(check) - {"port"}:
            yield Finding(
                ((*place, key), kind),
                f"is not looked at by type {show(check.type)}; it belongs in a [[virtual.check.part]]",
            )
    for p, part in enumerate(check.parts):
        if part.type in (*MOTLEY, *SILENT):
            choices = ", ".join(dict.fromkeys(name for name, _ in KINDS if name not in SILENT))
            yield Finding(((*parts, p, "type"),), f"{show(part.type)} cannot be a part; accepted: {choices}")


def _via(cluster: Cluster, virtual: Virtual, place: Path) -> Iterator[Finding]:
    """Checks that go to the virtual's address need frames, one interface, and something that has ports."""
    check = virtual.check
    if check.via != "virtual" or check.type in SILENT:
        return
    via = (*place, "via")
    forwards = {virtual.forward, *(real.forward for real in virtual.reals if real.forward)}
    if forwards != {"gate"}:
        ways = ", ".join(sorted(forwards - {"gate"}))
        yield Finding(
            (via, (*place[:-1], "forward")),
            f"'virtual' asks a real as forward 'gate' sends it packets, and some of these are sent by {ways}; "
            'write via = "real"',
        )
    for n, node in enumerate(cluster.nodes):
        if further := cluster.interfaces_of(node)[1:]:
            own: Path = ("cluster",) if node.real_interfaces is None else ("node", n)
            yield Finding(
                (via, (*own, "real_interfaces")),
                f"'virtual' asks on the interface of the virtual addresses, and some reals of {node.name} may be on "
                f'{", ".join(further)}; write via = "real"',
            )
            break
    if names := [asked.name for asked in check.questions if not asked.kind.transports]:
        yield Finding(
            (via, (*place, "type")),
            f"'virtual' is for checks over TCP and UDP, not {', '.join(names)}; write via = \"real\"",
        )


def _question(asked: Question, virtual: Virtual, place: Path) -> Iterator[Finding]:
    if asked.type in (*SILENT, *MOTLEY):
        return
    kinds: tuple[Path, ...] = ((*place, "type"), (*place, "service"))
    yield from _unread(asked, place, kinds)
    for need in asked.kind.needs:
        keys = need.split("|")
        if not any(getattr(asked, key) for key in keys):
            yield Finding(
                (*((*place, key) for key in keys), *kinds),
                f"is missing; {_name(asked)} needs {' or '.join(keys)}",
            )
    if asked.kind.transports and virtual.port_of(asked) == 0:
        yield Finding(
            ((*place, "port"), ("virtual", place[1], "port"), (*place, "type")),
            "is missing; the virtual has every port (0), so say which one is asked, like port = 80 in [virtual.check]",
        )
    yield from _request(asked, place, kinds)
    yield from _pairs(asked, place)
    yield from _tls(asked, place, kinds)


def _written(asked: Question) -> set[str]:
    """The keys that say something; a default that is written out, as `lbctl check --json` does, says nothing."""
    fields_ = Question.model_fields
    return {key for key in fields_ if key != "type" and getattr(asked, key) != fields_[key].default}


def _name(asked: Question) -> str:
    return f"service {show(asked.service)}" if asked.type == "negotiate" else f"type {show(asked.type)}"


def _unread(asked: Question, place: Path, kinds: tuple[Path, ...]) -> Iterator[Finding]:
    read = asked.kind.keys | ({"service"} if asked.type == "negotiate" else set())
    if not asked.kind.transports:
        read -= {"port"} - ({"port"} if asked.type == "external" else set())
    for key in sorted(_written(asked) - read):
        if asked.type == "connect" and key not in TLS_KEYS:
            message = (
                "is not looked at by type 'connect', which only opens a connection; "
                'write type = "negotiate", or remove this key'
            )
        else:
            message = (
                f"is not looked at by {_name(asked)}; it reads {', '.join(sorted(read - {'service'})) or 'nothing'}"
            )
        yield Finding(((*place, key), *kinds), message)


def _request(asked: Question, place: Path, kinds: tuple[Path, ...]) -> Iterator[Finding]:
    where = ((*place, "request"), *kinds)
    request = asked.request
    if asked.type != "negotiate":
        return
    if asked.service in PATHS and request is not None and (refusal := fields.refuse_path(request)):
        yield Finding(where, refusal)
    if asked.service not in FREE and request is not None and not request.isprintable():
        yield Finding(where, f"{show(request)} contains control characters; write one line")
    if asked.service == "http_proxy" and request is not None:
        url = urlsplit(request)
        if url.scheme not in ("http", "https") or not url.hostname or any(c.isspace() for c in request):
            message = f'{show(request)} is not a whole URL; write what the proxy is to fetch, like "http://www/health"'
            yield Finding(where, message)
    if asked.service == "dns" and request is not None and (refusal := fields.refuse_dns_name(request)):
        yield Finding(where, refusal)
    if asked.service == "redis" and request is not None and not _words(request):
        yield Finding(where, f"{show(request)} is not a command; close every quote that is opened")
    if asked.method == "HEAD" and "method" in asked.kind.keys:
        for key in ("receive", "refuse", "digest"):
            if getattr(asked, key) is not None:
                yield Finding(
                    ((*place, key), (*place, "method"), *kinds),
                    "nothing can be found in the answer to method 'HEAD', which has no body; write method = \"GET\"",
                )


def _words(request: str) -> list[str]:
    """The words of a command, or none."""
    try:
        return shlex.split(request)
    except ValueError:
        return []


def _pairs(asked: Question, place: Path) -> Iterator[Finding]:
    """Keys of which one excludes or needs the other."""
    for one, other in (
        ("passwd", "passwd_file"), ("secret", "secret_file"), ("request", "request_hex"), ("receive", "receive_hex"),
    ):  # fmt: skip
        if getattr(asked, one) is not None and getattr(asked, other) is not None:
            yield Finding(((*place, other), (*place, one)), f"stands beside {one}, which says the same; remove one")
    for secret in ("passwd", "secret"):
        written = getattr(asked, secret)
        if written is not None and not written.get_secret_value().isprintable():
            yield Finding(((*place, secret),), "contains control characters (it is not shown here); write one line")
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(asked, one) is not None and getattr(asked, other) is None:
            yield Finding(((*place, one), (*place, other)), f"is of no use without {other}; add {other}")


def _tls(asked: Question, place: Path, kinds: tuple[Path, ...]) -> Iterator[Finding]:
    kind = asked.kind
    if kind.tls and asked.tls not in kind.tls:
        choices = ", ".join(kind.tls)
        yield Finding(
            ((*place, "tls"), *kinds), f"{show(asked.tls)} is not something {_name(asked)} can do; accepted: {choices}"
        )
    if kind.tls and not asked.encrypted:
        for key in sorted(_written(asked) & set(TLS_KEYS)):
            choices = " or ".join(f'tls = "{word}"' for word in kind.tls if word != "off")
            yield Finding(
                ((*place, key), (*place, "tls"), *kinds), f"is not looked at without TLS; write {choices}, or remove it"
            )
