"""What a lab's host serves, so that the checks of its file pass. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Sequence
from urllib.parse import unquote, urlsplit

import regex

from lb.addresses import Address
from lb.lab.topology import Page, Server
from lb.model import Question, Virtual

DEFAULT_PORT = 80
"""What is served for a virtual of every port (0)."""
HTTPS_PORT = 443
"""Speaks TLS unless a check asks there for plain HTTP."""
WEB = ("http", "https")

Example = Callable[[str], str]
"""Makes up a text in which a regular expression should be found."""


def serving(
    name: str, virtuals: Sequence[Virtual], example: Example, addresses: Collection[Address] = ()
) -> dict[str, object]:
    """A host's `servers` and `udp_ports`. addresses: at which it answers the checks of these virtuals, too."""
    tls: dict[int, bool] = {}
    asked: dict[int, list[Question]] = {}
    pairs = [pair for virtual in virtuals for pair in virtual.pairs]
    udp = {pair.port or DEFAULT_PORT for pair in pairs if pair.protocol == "udp"}
    for virtual in virtuals:
        for question in _questions_at(virtual, addresses) if addresses else ():
            port = virtual.port_of(question) or DEFAULT_PORT
            if not question.kind.transports:
                continue
            if virtual.protocol_of(question) == "udp":
                udp.add(port)
            else:
                tls.setdefault(port, _in_tls(question, port))
                asked.setdefault(port, []).append(question)
    for pair in pairs:
        if pair.protocol == "tcp":
            tls.setdefault(pair.port or DEFAULT_PORT, pair.port == HTTPS_PORT)
    return {
        "udp_ports": tuple(sorted(udp)),
        "servers": tuple(
            Server(port=port, tls=tls[port], pages=_pages(name, asked.get(port, []), example)) for port in sorted(tls)
        ),
    }


def _questions_at(virtual: Virtual, addresses: Collection[Address]) -> tuple[Question, ...]:
    """What the host of these addresses is asked."""
    real = next((real for real in virtual.reals if real.address in addresses), None)
    return (virtual.check_of(real) if real else virtual.check).questions


def _in_tls(question: Question, port: int) -> bool:
    return question.encrypted if question.type == "negotiate" else port == HTTPS_PORT


def _pages(name: str, asked: Iterable[Question], example: Example) -> tuple[Page, ...]:
    """What the checks of one port ask for, each path once. (Nothing but the web is served in a lab.)"""
    by_path: dict[str, list[Question]] = {}
    for question in asked:
        if question.type == "negotiate" and question.service in WEB:
            by_path.setdefault(page_path(question.request or "/"), []).append(question)
    return tuple(_page(name, path, asking, example) for path, asking in by_path.items())


def _page(name: str, path: str, asking: Sequence[Question], example: Example) -> Page:
    """A page in which every pattern is found, and the host's name in its first line wherever they allow that."""
    patterns = tuple(dict.fromkeys(check.receive for check in asking if check.receive))
    text = "\n".join(example(pattern) for pattern in patterns)
    bodies = (f"{name}\n", f"{name}\n{text}\n", f"{name}\n{text}", f"{text}\n{name}\n", f"{text}\n", text)
    fitting = next((body for body in bodies if all(regex.search(p, body) for p in patterns)), None)
    status = asking[0].status
    return Page(
        path=path,
        status=200 if not status or 200 in status else status[0],
        body=bodies[1] if fitting is None else fitting,
        passes=fitting is not None,
    )


def page_path(request: str) -> str:
    """The path of a check's request as a web server sees it: no query, decoded, dots resolved."""
    path = unquote(urlsplit(request).path)
    resolved = "/" + posixpath.normpath("/" + path).lstrip("/")
    return resolved + "/" if path.endswith("/") and resolved != "/" else resolved
