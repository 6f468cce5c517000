"""What a message about reals says: events in, a document for programs and a text for people out. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

Phase = Literal["starting", "running", "reloading"]

SUBJECT_LONGEST = 120
"""Characters of a subject, beyond which it is cut."""


class Event(NamedTuple):
    """A real, or a virtual as a whole, that became well or unwell.

    at: Unix time, s. real: its address, empty where the virtual is meant: nobody is left to serve it, or somebody is
    again. name: the real's, empty if it has none. check: what was asked. was, lasted_s: the state that ended, empty
    where nobody counted, and how long it had lasted; of one that is told again, how long it lasts already. phase: was
    it the first verdict after a start or a reload? again: told before, and still so.
    """

    at: float
    virtual: str
    real: str
    name: str
    check: str
    state: Literal["up", "down"]
    was: str
    lasted_s: float
    reason: str
    phase: Phase = "running"
    again: bool = False

    @property
    def subject(self) -> str:
        """Who is meant, for people."""
        return f"{self.name or self.real} of {self.virtual}" if self.real else self.virtual


class Digest(NamedTuple):
    """Some events, the oldest first. omitted: how many came before them and are left out, being too many."""

    cluster: str
    node: str
    events: tuple[Event, ...]
    omitted: int = 0


def document(digest: Digest) -> dict[str, Any]:
    """For programs: what a webhook is sent and a command reads."""
    return {
        "cluster": digest.cluster,
        "node": digest.node,
        "omitted": digest.omitted,
        "changes": [
            {
                **event._asdict(),
                "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"),
                "real": event.real or None,
                "name": event.name or None,
                "check": event.check or None,
                "was": event.was or None,
                "lasted_s": round(event.lasted_s, 1),
            }
            for event in digest.events
        ],
    }


def subject(digest: Digest) -> str:
    """One line: the event where it is alone, else how many of which."""
    head = f"[{digest.cluster} {digest.node}] "
    if len(digest.events) == 1 and not digest.omitted:
        (event,) = digest.events
        text = f"{event.subject} is {'still ' if event.again else ''}{event.state}: {event.reason}"
    else:
        counts = Counter(event.state for event in digest.events)
        who = ", ".join(dict.fromkeys(event.subject for event in digest.events))
        text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) + f": {who}"
    line = head + " ".join(text.split())
    return line if len(line) <= SUBJECT_LONGEST else line[: SUBJECT_LONGEST - 1] + "…"


def text(digest: Digest) -> str:
    """A line an event, and who says so."""
    lines = [_line(event) for event in digest.events]
    if digest.omitted:
        lines.insert(0, f"{digest.omitted} earlier changes are left out; the log of {digest.node} has them.")
    return "\n".join([*lines, "", f"-- \nlbctl on {digest.node}, cluster {digest.cluster}", ""])


def _line(event: Event) -> str:
    when = datetime.fromtimestamp(event.at, UTC).isoformat(sep=" ", timespec="seconds")
    who = f"{event.name} ({event.real}) of {event.virtual}" if event.name else event.subject
    asked = f" ({event.check})" if event.check else ""
    how = f"; was {event.was} for {event.lasted_s:.0f} s" if event.was else ""
    if event.again:
        how = f"; for {event.lasted_s:.0f} s already"
    return f"{when}  {who} is {event.state}{asked}: {event.reason}{how}"
