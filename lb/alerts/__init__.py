"""Telling people that reals come and go: by mail, by a program, by a webhook.

`digest` says what a message looks like, `channel` when one is sent and what becomes of it if it cannot be, `senders`
has the three ways, `Alerts` holds them together. Nothing here is waited for by a check.
"""

from __future__ import annotations

from lb.alerts.alerts import Alerts
from lb.alerts.digest import Event, Phase

__all__ = ["Alerts", "Event", "Phase"]
