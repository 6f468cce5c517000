"""What a director remembers over a restart of its process: the operator's overrides, the last known health, histories.

One JSON file in /run, replaced atomically, so that neither a crash nor a full disk leaves half of it. A file that
cannot be read is set aside with a warning: memory is a help, never a reason not to start.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from lb.addresses import Address
from lb.byhand import Book, Order
from lb.health import State
from lb.history import KEPT, Entry, History
from lb.plan import Override, Target
from lb.service import ServiceKey

log = structlog.get_logger(__name__)


class _Happened(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: float
    state: str
    was: str
    lasted_s: float
    reason: str


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: Address
    port: int
    protocol: int
    real: Address
    weight: int | None = None
    drained: bool = False
    ordered_ns: int = 0
    health: State = "unknown"
    history: list[_Happened] = []

    @property
    def ordered(self) -> bool:
        return self.drained or self.weight is not None or self.ordered_ns > 0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    reals: list[_Record] = []


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of reals by the time a process ends. damaged: was there a file that could not be read?"""

    book: Book = field(default_factory=dict)
    states: Mapping[Target, State] = field(default_factory=dict)
    histories: Mapping[Target, History] = field(default_factory=dict)
    damaged: bool = False


def save(path: Path, known: Remembered) -> None:
    """Replace the file; remove it where there is nothing to remember. Raises OSError.

    Written record by record, so that a thread that does it leaves the interpreter to others in between.
    """
    targets = list(dict.fromkeys([*known.book, *known.states, *known.histories]))
    if not targets:
        path.unlink(missing_ok=True)
        return
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    with new.open("w") as file:
        before = '{"version": 1, "reals": ['
        for target in targets:
            file.write(before)
            file.write(json.dumps(_record(target, known)))
            before = ",\n"
        file.write("]}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _record(target: Target, known: Remembered) -> dict[str, Any]:
    (address, port, protocol), real = target
    override, ordered_ns = known.book.get(target, Order(Override(), 0))
    return {
        "address": str(address),
        "port": port,
        "protocol": protocol,
        "real": str(real),
        "weight": override.weight,
        "drained": override.drained,
        "ordered_ns": ordered_ns,
        "health": known.states.get(target, "unknown"),
        "history": [entry._asdict() for entry in known.histories.get(target, ())],
    }


def load(path: Path) -> Remembered:
    """What the last process knew; nothing if there was none or its file is damaged."""
    try:
        file = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValidationError) as error:
        aside = path.with_suffix(".bad")
        with contextlib.suppress(OSError):
            path.rename(aside)
        log.warning("the remembered state is damaged: starting without it", file=str(aside), error=str(error))
        return Remembered(damaged=True)
    records = {(ServiceKey(r.address, r.port, r.protocol), r.real): r for r in file.reals}
    return Remembered(
        {t: Order(Override(r.weight, r.drained), r.ordered_ns) for t, r in records.items() if r.ordered},
        {t: r.health for t, r in records.items()},
        {t: tuple(Entry(**dict(entry)) for entry in r.history[-KEPT:]) for t, r in records.items() if r.history},
    )
