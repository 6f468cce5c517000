"""`lbctl lab`: the whole cluster of a configuration on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from rich.markup import escape

from lb.cli.options import conf_argument
from lb.cli.output import err, json_option, out, print_json, print_table, state
from lb.errors import NotRunningError
from lb.lab import state as labs

if TYPE_CHECKING:
    from lb.model import Cluster


def _hosts(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    names = [host.name for lab in labs.labs() for host in lab.topology.hosts]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_host = click.argument("host", shell_complete=_hosts)
_any_conf = click.argument("conf", type=click.Path(path_type=Path), required=False)


@click.group()
def lab() -> None:
    """Raise the whole cluster of a file on this machine: client, directors, reals with nginx, in namespaces.

    \b
    lbctl lab up conf/cluster.toml
    lbctl lab exec client -- curl http://192.168.1.105/
    lbctl lab kill lb1
    lbctl lab down

    The addresses of the file live only inside the lab; its switch has no uplink.
    """


@contextlib.contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """What is being done: beside a spinner on a terminal, else line by line, and never on standard output."""
    if err.is_terminal:
        with err.status("…") as spinner:
            yield lambda line: spinner.update(escape(line))
    else:
        yield lambda line: err.print(escape(line))


@lab.command()
@conf_argument
@click.option("--hosts-only", is_flag=True, help="Do not start lbctl on the directors.")
@json_option
def up(conf: Path, hosts_only: bool, as_json: bool) -> None:
    """Raise the lab of CONF, or what is missing of it, and wait until a director is active.

    \b
    lbctl lab up conf/cluster.toml
    """
    from ha import authkeys
    from lb import config
    from lb.lab import control

    cluster = config.load(conf)
    with _telling() as say:
        raised, started = control.up(cluster, hosts_only, authkeys.generate, say)
    if as_json:
        print_json({**control.status(raised), "started": started})
        return
    hosts = f"{len(raised.topology.hosts)} hosts"
    if started:
        client = raised.topology.client.name
        out.print(f"the lab of {raised.name} is up, {hosts}; try: lbctl lab exec {client} -- {_trial(cluster)}")
    else:
        out.print(f"the lab of {raised.name} is up already, {hosts}: lbctl lab status")
    for host, path in raised.topology.unanswered:
        www = raised.disk(host) / "www"
        out.print(f"{host.name}: no text could be made up that its check of {path} wants; write one into {www}")


def _trial(cluster: Cluster) -> str:
    """A command that gets an answer from the cluster."""
    web = next((virtual for virtual in cluster.virtuals if virtual.protocol == "tcp"), None)
    if web is None:
        return f"ping -c 1 {next(iter(cluster.addresses), cluster.nodes[0].address)}"
    host = f"[{web.address}]" if web.address.version == 6 else str(web.address)
    port = f":{web.port}" if web.port not in (0, 80, 443) else ""
    return f"curl -k https://{host}{port}/" if web.port == 443 else f"curl http://{host}{port}/"


@lab.command()
@_any_conf
@json_option
def down(conf: Path | None, as_json: bool) -> None:
    """Take the lab of CONF down, or all labs of this machine; nothing is left, whatever state they are in.

    \b
    lbctl lab down conf/cluster.toml
    """
    from lb.lab import control

    name = _name_of(conf) if conf else None
    with _telling() as say:
        say("taking down")
        gone = control.down(name)
    if as_json:
        print_json({"down": gone})
    elif gone:
        out.print(f"the lab of {', '.join(gone)} is down")
    else:
        out.print(f"no lab {f'of {name} ' if name else ''}is up")


def _name_of(conf: Path) -> str:
    """The cluster whose lab is meant: the one that was raised from this file, which may be broken or gone now."""
    from lb import config

    path = conf.absolute()
    raised = next((known.name for known in labs.labs() if known.conf == path), None)
    return raised or config.load(conf).cluster.name


@lab.command()
@_any_conf
@json_option
def status(conf: Path | None, as_json: bool) -> None:
    """Show the hosts of the lab of CONF, or of all labs: address, on or off, what runs there.

    \b
    lbctl lab status conf/cluster.toml
    """
    from lb.lab import control

    name = _name_of(conf) if conf else None
    documents = [control.status(known) for known in labs.labs() if name in (None, known.name)]
    if not documents:
        what = f"the lab of {name} is not up" if name else "no lab is up"
        raise NotRunningError(f"{what}; raise it with: lbctl lab up {conf or 'CONF'}")
    if as_json:
        print_json({"labs": documents})
        return
    for document in documents:
        rows = [_row(host) for host in document["hosts"]]
        title = f"lab of {document['cluster']}, from {document['conf']}; logs in {document['directory']}"
        print_table(("HOST", "KIND", "STATE", "ADDRESSES", "RUNS"), rows, title)


def _row(host: dict[str, Any]) -> tuple[str, ...]:
    counted = Counter(process["service"] or process["command"].split()[0] for process in host["processes"])
    runs = ", ".join(escape(f"{name} ({count})" if count > 1 else name) for name, count in counted.items())
    return (host["name"], host["kind"], state(host["state"]), ", ".join(host["addresses"]), runs or "-")


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@_host
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(host: str, command: Sequence[str]) -> None:
    """Run a command in HOST's network; its exit status is the command's.

    \b
    lbctl lab exec client -- curl http://192.168.1.105/
    lbctl lab exec lb1 -- lbctl status
    """
    _become(host, command)


@lab.command()
@_host
def shell(host: str) -> None:
    """Open a shell in HOST's network.

    \b
    lbctl lab shell web1
    """
    _become(host, (os.environ.get("SHELL", "/bin/sh"),))


def _become(name: str, command: Sequence[str]) -> None:
    from lb import namespaces

    owner, host = labs.running_host(name)
    namespaces.enter(host.namespace, host.name)
    env = owner.environment(host)
    program = shutil.which(command[0], path=env["PATH"])
    if program is None:
        err.print(f"lbctl: {name}: {command[0]}: no such command in {env['PATH']}")
        raise SystemExit(127)
    os.execve(program, list(command), env)


@lab.command()
@_host
def kill(host: str) -> None:
    """Cut HOST's power: its link goes first, then every process, then all that was in its memory.

    \b
    lbctl lab kill lb1
    """
    from lb.lab import control

    out.print(f"{host} is off" if control.kill(host) else f"{host} was off already")


@lab.command()
@_host
def start(host: str) -> None:
    """Switch HOST on again, as before; on a living host start what has ended.

    \b
    lbctl lab start lb1
    """
    from lb.lab import control

    with _telling() as say:
        started = control.start(host, say)
    out.print(f"{host} is on" if started else f"{host} is on already")


@lab.command()
@_host
@click.argument("action", type=click.Choice(["start", "stop"]))
def nginx(host: str, action: str) -> None:
    """Start or stop the web server of HOST, as an operator of that host would.

    \b
    lbctl lab nginx web1 stop
    """
    from lb.lab import control

    changed = control.nginx(host, action == "start")
    words = {"start": "runs", "stop": "is stopped"}[action]
    out.print(f"nginx on {host} {words}{'' if changed else ' already'}")
