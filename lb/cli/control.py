"""Orders to a running director."""

from __future__ import annotations

import time
from pathlib import Path

import click

from lb import rundir
from lb.cli.options import node_option
from lb.cli.output import json_option, out, print_json
from lb.client import call
from lb.errors import LbctlError

ROLE_TIMEOUT_S = STOP_TIMEOUT_S = 30.0


def _order(node: str | None, order: str, as_json: bool, **parameters: object) -> None:
    answer = call(rundir.find_director(node), "POST", order, ROLE_TIMEOUT_S, **parameters)
    if as_json:
        print_json(answer)
    else:
        out.print(answer["message"])


@click.command()
@click.argument("conf", type=click.Path(path_type=Path), required=False)
@node_option()
@json_option
def reload(conf: Path | None, node: str | None, as_json: bool) -> None:
    """Apply what changed in the configuration; connections to what stays are not touched.

    \b
    lbctl reload
    lbctl reload /etc/lbctl/cluster.toml

    Without CONF the file that the director was started with is read again. An invalid file changes nothing.
    """
    name = rundir.find_director(node)
    if conf:
        from lb import config

        config.load(conf)
    _order(name, "/reload", as_json, path=str(conf.resolve()) if conf else None)


@click.command()
@click.argument("real")
@node_option()
@json_option
def drain(real: str, node: str | None, as_json: bool) -> None:
    """Give a real no new connections; those it has go on. REAL is VIRTUAL/ADDRESS, or ADDRESS for all virtuals.

    \b
    lbctl drain web/192.168.1.101
    lbctl drain 192.168.1.101

    Kept across reloads and restarts of the director until 'lbctl enable'. It concerns this director only: say it on the
    other one too if a failover may come.
    """
    _order(node, "/drain", as_json, real=real)


@click.command()
@click.argument("real")
@node_option()
@json_option
def enable(real: str, node: str | None, as_json: bool) -> None:
    """Undo 'drain' and 'weight': the real counts again as the file says.

    \b
    lbctl enable web/192.168.1.101
    """
    _order(node, "/enable", as_json, real=real)


@click.command()
@click.argument("real")
@click.argument("weight", type=click.IntRange(0, 65535))
@node_option()
@json_option
def weight(real: str, weight: int, node: str | None, as_json: bool) -> None:
    """Give a real another weight than the file's, until 'lbctl enable'.

    \b
    lbctl weight web/192.168.1.101 5
    """
    _order(node, "/weight", as_json, real=real, weight=weight)


@click.command()
@click.argument("virtual", required=False)
@node_option()
@json_option
def standby(virtual: str | None, node: str | None, as_json: bool) -> None:
    """Hand the virtual addresses to the other director and stay as its standby (hb_standby).

    \b
    lbctl standby
    lbctl standby web2      only the address of this virtual, and those of the same preferred node

    Refused while the other director cannot take over: not heard, or not in sync.
    """
    _order(node, "/standby", as_json, virtual=virtual)


@click.command()
@click.argument("virtual", required=False)
@node_option()
@json_option
def takeover(virtual: str | None, node: str | None, as_json: bool) -> None:
    """Take the virtual addresses from the other director, which becomes standby (hb_takeover).

    \b
    lbctl takeover
    lbctl takeover web2     only the address of this virtual, and those of the same preferred node
    """
    _order(node, "/takeover", as_json, virtual=virtual)


@click.command()
@node_option()
def down(node: str | None) -> None:
    """Stop this machine's director. The virtual addresses move to the other one first, so that nobody notices.

    \b
    lbctl down
    lbctl down --node lb1
    """
    name = rundir.find_director(node)
    call(name, "POST", "/down")
    deadline = time.monotonic() + STOP_TIMEOUT_S
    with out.status(f"stopping {name} …"):
        while rundir.pid_behind(name) is not None:
            if time.monotonic() > deadline:
                raise LbctlError(f"{name} did not stop within {STOP_TIMEOUT_S:g} s; its log says why")
            time.sleep(0.02)
    out.print(f"{name} stopped")
