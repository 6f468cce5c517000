"""What operators order by hand, shared by all directors: of a real the latest order counts, given anywhere. Pure.

Each order has the time at which it was given, and one given after another was seen is later than that, whatever the
clocks say. So directors that tell each other their books, in whole or in part, in any order and any number of times,
end with the same one. That an order was undone is an order, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Annotated, Final, NamedTuple

import msgpack
from pydantic import Field, TypeAdapter

from lb.plan import Override, Overrides, Target
from lb.service import ServiceKey

AT_ONCE: Final = 1000
"""Orders in one message."""


class Order(NamedTuple):
    """stamp_ns: when it was given, by the clock on the wall of that director."""

    override: Override
    stamp_ns: int


Book = Mapping[Target, Order]

_Port = Annotated[int, Field(ge=0, le=65535)]
_Row = tuple[
    str, _Port, Annotated[int, Field(ge=0, le=255)], str, _Port | None, bool, Annotated[int, Field(ge=0, lt=2**63)]
]
_ROWS: Final = TypeAdapter(list[_Row])


def overrides(book: Book) -> dict[Target, Override]:
    """What is in force."""
    return {target: order.override for target, order in book.items() if order.override != Override()}


def written(book: Book, wanted: Overrides, wall_ns: int) -> dict[Target, Order]:
    """The book after an operator has given the orders that make these overrides of those in force."""
    changed = dict(book)
    for target in differing(overrides(book), wanted):
        last_ns = book[target].stamp_ns if target in book else 0
        changed[target] = Order(wanted.get(target, Override()), max(wall_ns, last_ns + 1))
    return changed


def merged(mine: Book, theirs: Book) -> dict[Target, Order]:
    """Both; of each real the later order. The same whoever's is mine."""
    found = dict(mine)
    for target, order in theirs.items():
        if target not in found or _rank(order) > _rank(found[target]):
            found[target] = order
    return found


def differing(before: Overrides, after: Overrides) -> list[Target]:
    """The reals for which something else is in force."""
    return [
        target
        for target in dict.fromkeys([*before, *after])
        if before.get(target, Override()) != after.get(target, Override())
    ]


def wording(override: Override) -> str:
    """What is in force, as a word for people."""
    if override.drained:
        return "drained"
    return "enabled" if override.weight is None else f"weight {override.weight}"


def _rank(order: Order) -> tuple[int, bool, int]:
    weight = order.override.weight
    return order.stamp_ns, order.override.drained, -1 if weight is None else weight


def encode(book: Book) -> Iterator[bytes]:
    """Messages that `decode` reads."""
    rows = [
        (str(key.address), key.port, key.protocol, str(real), override.weight, override.drained, stamp_ns)
        for (key, real), (override, stamp_ns) in book.items()
    ]
    for at in range(0, len(rows), AT_ONCE):
        yield bytes(msgpack.packb(rows[at : at + AT_ONCE]))


def decode(payload: bytes) -> dict[Target, Order]:
    """A part of another director's book. Raises ValueError for anything that `encode` would not have made."""
    try:
        rows = _ROWS.validate_python(msgpack.unpackb(payload))
    except (ValueError, msgpack.UnpackException) as error:  # pydantic's errors are ValueErrors, too
        raise ValueError(f"these are no orders: {error}") from None
    return {
        (ServiceKey(ip_address(address), port, protocol), ip_address(real)): Order(Override(weight, drained), stamp_ns)
        for address, port, protocol, real, weight, drained, stamp_ns in rows
    }
