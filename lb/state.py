"""What a director remembers over a restart of its process: the operator's overrides and the last known health.

One JSON file in /run, replaced atomically, so that neither a crash nor a full disk leaves half of it. A file that
cannot be read is set aside with a warning: memory is a help, never a reason not to start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from lb.addresses import Address
from lb.plan import Override, Target
from lb.service import ServiceKey

log = structlog.get_logger(__name__)

HealthWord = Literal["unknown", "up", "down"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: Address
    port: int
    protocol: int
    real: Address
    weight: int | None = None
    drained: bool = False
    health: HealthWord = "unknown"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    reals: list[_Record] = []


def save(path: Path, overrides: dict[Target, Override], health: dict[Target, HealthWord]) -> None:
    """Replace the file; remove it where there is nothing to remember. Raises OSError."""
    records = []
    for target in dict.fromkeys([*overrides, *health]):
        (address, port, protocol), real = target
        override = overrides.get(target, Override())
        records.append(
            _Record(
                address=address, port=port, protocol=protocol, real=real,
                weight=override.weight, drained=override.drained, health=health.get(target, "unknown"),
            )
        )  # fmt: skip
    if not records:
        path.unlink(missing_ok=True)
        return
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    with new.open("w") as file:
        file.write(_File(reals=records).model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def load(path: Path) -> tuple[dict[Target, Override], dict[Target, HealthWord]]:
    """What the last process knew; nothing if there was none or its file is damaged."""
    try:
        file = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValidationError) as error:
        aside = path.with_suffix(".bad")
        path.rename(aside)
        log.warning("the remembered state is damaged: starting without it", file=str(aside), error=str(error))
        return {}, {}
    overrides: dict[Target, Override] = {}
    health: dict[Target, HealthWord] = {}
    for record in file.reals:
        target = (ServiceKey(record.address, record.port, record.protocol), record.real)
        health[target] = record.health
        if record.drained or record.weight is not None:
            overrides[target] = Override(record.weight, record.drained)
    return overrides, health
